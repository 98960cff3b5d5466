//! Power loss: what a server had acknowledged, and what of it a disk would still have. The server's own calls to the system
//! say what it had synced: a file that it opened `O_SYNC` as far as it wrote, any other as far as it called `fsync`. The store
//! is cut there, and a server started on what is left.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tidegate_bus::server::find;
use tidegate_bus::{Outbound, Role};

use crate::cell::{Cell, until};

/// Messages that are acknowledged before the power goes, count.
const MESSAGES: usize = 64;
/// The calls that put something into a file, or make it durable.
const CALLS: &str = "openat,close,write,pwrite64,lseek,fsync,fdatasync,ftruncate,rename,renameat,renameat2";

/// How far a file was written, and how far that would outlast the power.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct File {
    written: u64,
    durable: u64,
}

/// The files of a process, by what it asked the system.
#[derive(Debug, Default)]
struct Disk {
    files: BTreeMap<String, File>,
    /// Open files by number: whether writes are durable at once, and where the next goes.
    open: BTreeMap<u64, (bool, u64)>,
}

impl Disk {
    /// What the lines of a trace (`strace -f -y`) come to.
    fn of(trace: &str) -> Self {
        let mut disk = Self::default();
        let mut begun: BTreeMap<&str, &str> = BTreeMap::new();
        for line in trace.lines() {
            let Some((thread, call)) = line.split_once(' ') else { continue };
            let call = call.trim_start();
            if let Some((begin, _)) = call.split_once(" <unfinished ...>") {
                begun.insert(thread, begin);
            } else if let Some((_, end)) = call.split_once(" resumed>") {
                let begin = begun.remove(thread).unwrap_or_default();
                disk.called(&format!("{begin}{end}"));
            } else {
                disk.called(call);
            }
        }
        disk
    }

    fn called(&mut self, call: &str) {
        let Some((name, rest)) = call.split_once('(') else { return };
        let Some((arguments, answer)) = rest.rsplit_once(" = ") else { return };
        let returned: Option<u64> = answer.split(['<', ' ']).next().and_then(|text| text.parse().ok());
        let Some(returned) = returned else { return };
        if name == "openat" {
            let position = if arguments.contains("O_TRUNC") { self.emptied(answer) } else { 0 };
            let at = if arguments.contains("O_APPEND") { u64::MAX } else { position };
            self.open.insert(returned, (arguments.contains("O_SYNC"), at));
            return;
        }
        if name.starts_with("rename") {
            return self.renamed(arguments);
        }
        let Some((descriptor, path)) = arguments.split_once('<') else { return };
        let (Ok(descriptor), Some((path, after))) = (descriptor.parse::<u64>(), path.split_once('>')) else {
            return;
        };
        let last = after.trim_end_matches([')', ' ']).rsplit(", ").next().and_then(|text| text.parse().ok());
        let file = self.files.entry(path.to_owned()).or_default();
        let (synced, position) = self.open.entry(descriptor).or_default();
        match name {
            "write" | "pwrite64" => {
                let from = if name == "pwrite64" { last.unwrap_or(0) } else { *position };
                let from = if from == u64::MAX { file.written } else { from };
                let end = from + returned;
                if name == "write" && *position != u64::MAX {
                    *position = end;
                }
                file.written = file.written.max(end);
                if *synced {
                    file.durable = file.durable.max(end);
                }
            }
            "lseek" => *position = returned,
            "fsync" | "fdatasync" => file.durable = file.written,
            "ftruncate" => {
                file.written = last.unwrap_or(0);
                file.durable = file.durable.min(file.written);
            }
            "close" => drop(self.open.remove(&descriptor)),
            _ => {}
        }
    }

    fn emptied(&mut self, answer: &str) -> u64 {
        if let Some((_, path)) = answer.split_once('<') {
            self.files.insert(path.trim_end_matches('>').to_owned(), File::default());
        }
        0
    }

    /// A name that moved is taken to have outlasted the power: this is about content.
    fn renamed(&mut self, arguments: &str) {
        let names: Vec<&str> = arguments.split('"').skip(1).step_by(2).collect();
        if let [from, to] = names.as_slice()
            && let Some(file) = self.files.remove(*from)
        {
            self.files.insert((*to).to_owned(), file);
        }
    }

    /// Takes from the files below `root` what had not been synced; how many files that were.
    fn cut(&self, root: &Path) -> usize {
        let mut count = 0;
        for (path, file) in &self.files {
            let is_there = Path::new(path).starts_with(root) && Path::new(path).is_file();
            if is_there && file.durable < file.written {
                let opened = std::fs::File::options().write(true).open(path).unwrap();
                opened.set_len(file.durable).unwrap();
                count += 1;
            }
        }
        count
    }
}

/// A program that runs the real server under `strace`, as the same process.
fn traced(dir: &Path) -> PathBuf {
    let strace = Path::new("/usr/bin/strace");
    assert!(strace.exists(), "`strace` is not installed: apt-get install strace");
    let program = dir.join("nats-server");
    let script = format!(
        "#!/bin/sh\nexec {} -D -q -f -y -s 0 -e trace={CALLS} -o {} {} \"$@\"\n",
        strace.display(),
        dir.join("trace").display(),
        find().unwrap().display(),
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
    program
}

/// Messages that were acknowledged, and those that a server finds after the power went.
async fn survived(sync_interval: &str) -> (u64, u64) {
    let tools = tempfile::tempdir().unwrap();
    let mut cell = Cell::start_by(traced(tools.path()), sync_interval).await;
    let bus = cell.role(Role::Router).await;
    for number in 0..MESSAGES {
        let subject = "work.local.default.interactive.acme";
        let message = Outbound::new(subject, vec![b'x'; 200]).with_id(format!("acme/m/{number}"));
        bus.publish(message).await.unwrap();
    }
    drop(bus);
    cell.server.kill().await;
    // The tracer writes its last line when the process is gone.
    let trace = tools.path().join("trace");
    until("the end of the trace", || async {
        std::fs::read_to_string(&trace).is_ok_and(|text| text.contains("+++ killed by SIGKILL +++"))
    })
    .await;
    let disk = Disk::of(&std::fs::read_to_string(&trace).unwrap());
    disk.cut(&cell.dir.path().join("nats/streams"));
    cell.server.restart().await.unwrap();
    // Where even the stream's own files were not synced there is no stream.
    let found = cell.role(Role::Router).await.stream_info("WORK_LOCAL").await;
    (MESSAGES as u64, found.map_or(0, |stream| stream.messages))
}

#[tokio::test]
async fn crash_power_loss_takes_nothing_that_a_stream_acknowledged() {
    let (acknowledged, left) = survived("always").await;
    assert_eq!(left, acknowledged, "as shipped");
}

/// The server's own default, two minutes, acknowledges what no disk has.
#[tokio::test]
async fn crash_power_loss_takes_what_a_server_with_its_defaults_acknowledged() {
    let (acknowledged, left) = survived("2m").await;
    assert!(left < acknowledged, "negative control: {left} of {acknowledged} are left");
}

#[test]
fn what_a_trace_says_is_durable() {
    let disk = Disk::of(concat!(
        "7 openat(AT_FDCWD, \"/s/1.blk\", O_RDWR|O_CREAT|O_SYNC|O_CLOEXEC, 0644) = 5</s/1.blk>\n",
        "7 pwrite64(5</s/1.blk>, \"\"..., 30, 10) = 30\n",
        "7 openat(AT_FDCWD, \"/s/2.blk\", O_RDWR|O_CREAT|O_CLOEXEC, 0644) = 6</s/2.blk>\n",
        "7 write(6</s/2.blk>, \"\"..., 20) = 20\n",
        "8 write(6</s/2.blk>, \"\"..., 5 <unfinished ...>\n",
        "7 fsync(6</s/2.blk>) = 0\n",
        "8 <... write resumed>) = 5\n",
    ));
    assert_eq!(disk.files["/s/1.blk"], File { written: 40, durable: 40 });
    assert_eq!(disk.files["/s/2.blk"], File { written: 25, durable: 20 });
}

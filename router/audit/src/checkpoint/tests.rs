#![expect(clippy::unwrap_used, reason = "tests")]

use signed_note::{Note, StandardVerifier, VerifierList};

use super::notes::notes;
use super::sink::{self, Sink};
use super::{Checkpoint, NoteError, PublicKey, Signer, kept};

const NAME: &str = "tidegate/test";

fn signer() -> Signer {
    Signer::from_bytes(&[5; 32], NAME)
}

#[test]
fn checkpoint_notes_are_those_of_another_implementation() {
    let key = signer().public();
    for epoch in [1, 2] {
        let note = signer().sign(epoch, 70_000, [9; 32]);
        let known = VerifierList::new(vec![Box::new(StandardVerifier::new(&key.line(epoch)).unwrap())]);
        let (verified, _) = Note::from_bytes(note.as_bytes()).unwrap().verify(&known).unwrap();
        assert_eq!(verified.len(), 1);
        let theirs = tlog_tiles::Checkpoint::from_bytes(
            note.split_once("\n\n").map(|(text, _)| format!("{text}\n")).unwrap().as_bytes(),
        )
        .unwrap();
        let ours = key.open(&note).unwrap();
        assert_eq!(
            (theirs.origin(), theirs.size(), theirs.hash().0),
            (ours.origin.as_str(), ours.size, ours.root)
        );
        assert_eq!(ours, Checkpoint { origin: theirs.origin().to_owned(), size: 70_000, root: [9; 32] });
        assert_eq!(key.epoch(&ours.origin), Some(epoch));
    }
    assert_eq!(key.to_string().parse::<PublicKey>().unwrap(), key);
}

#[test]
fn tamper_each_bit_of_a_note_and_of_a_key_counts() {
    let (key, note) = (signer().public(), signer().sign(1, 500, [9; 32]));
    assert!(key.open(&note).is_ok(), "negative control");
    for (text, opens) in [(note.clone(), true), (key.to_string(), false)] {
        for at in 0..text.len() * 8 {
            let mut bytes = text.clone().into_bytes();
            bytes[at / 8] ^= 1 << (at % 8);
            let Ok(bad) = String::from_utf8(bytes) else { continue };
            // A line whose name is another is another log's key; nothing of ours opens with it.
            let fails = if opens {
                key.open(&bad).is_err()
            } else {
                bad.parse::<PublicKey>().is_ok_and(|bad| bad.open(&note).is_ok())
            };
            assert_eq!(fails, opens, "bit {at}");
        }
    }
}

#[test]
fn checkpoint_a_note_of_another_key_log_or_form_is_refused() {
    let (key, note) = (signer().public(), signer().sign(1, 500, [9; 32]));
    let other = Signer::from_bytes(&[6; 32], NAME).sign(1, 500, [9; 32]);
    let witness = Signer::from_bytes(&[6; 32], "witness.example").sign(1, 500, [9; 32]);
    let cosigned = format!("{note}{}\n", witness.lines().last().unwrap());
    let cases = [
        ("negative control", note.clone(), None),
        ("with a witness", cosigned, None),
        ("another key", other, Some(NoteError::Unsigned)),
        ("another log", witness, Some(NoteError::Origin("witness.example".to_owned()))),
        (
            "a log whose name begins the same",
            signer().sign(1, 1, [9; 32]).replace(NAME, "tidegate/tests"),
            Some(NoteError::Origin("tidegate/tests".to_owned())),
        ),
        (
            "an epoch that is written otherwise",
            note.replace(NAME, "tidegate/test/01"),
            Some(NoteError::Origin("tidegate/test/01".to_owned())),
        ),
        ("a size that is written otherwise", note.replace("\n500\n", "\n0500\n"), Some(NoteError::Malformed)),
        ("an extension line", note.replacen("\n\n", "\nmore\n\n", 1), Some(NoteError::Malformed)),
        ("another size", note.replace("\n500\n", "\n501\n"), Some(NoteError::Signature)),
        ("no signature", note.split_once("\n\n").unwrap().0.to_owned(), Some(NoteError::Malformed)),
        ("nothing", String::new(), Some(NoteError::Malformed)),
    ];
    for (name, note, expected) in cases {
        assert_eq!(key.open(&note).err(), expected, "{name}");
    }
}

#[test]
fn checkpoint_file_keeps_all_and_gives_the_newest() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("checkpoints");
    let all: Vec<String> = (1..400).map(|size| signer().sign(1, size, [9; 32])).collect();
    let mut sink = Sink::open(&path, NAME).unwrap();
    assert_eq!(sink.newest(), None);
    for note in &all {
        sink.append(note).unwrap();
    }
    assert_eq!(Sink::open(&path, NAME).unwrap().newest(), all.last().map(String::as_str));
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(notes(&text), all);

    // A crash within the last note, wherever in it, a character too.
    let bytes = text.as_bytes();
    for cut in 1..sink::entry(&all[398]).len() {
        std::fs::write(&path, &bytes[..bytes.len() - cut]).unwrap();
        let mut sink = Sink::open(&path, NAME).unwrap();
        assert_eq!(sink.newest(), Some(all[397].as_str()), "{cut}");
        sink.append(&all[398]).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "{cut}");
    }
    // And within the first one, which there is nothing before.
    let first = sink::entry(&all[0]);
    for cut in 1..first.len() {
        std::fs::write(&path, &first.as_bytes()[..first.len() - cut]).unwrap();
        let mut sink = Sink::open(&path, NAME).unwrap();
        assert_eq!(sink.newest(), None, "{cut}");
        sink.append(&all[0]).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), first, "{cut}");
    }
}

#[test]
fn checkpoint_file_that_is_another_s_is_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("checkpoints");
    let note = sink::entry(&signer().sign(1, 7, [9; 32]));
    let others = note.replace(NAME, "tidegate/tests");
    let (of_others, text) = (&others[..others.len() - 20], note.split_inclusive("\n\n").next().unwrap());
    let foreign =
        ["a letter\n\n", "a letter", of_others, &format!("{note}a letter\n\n"), &format!("\n{text}")];
    for foreign in foreign {
        std::fs::write(&path, foreign).unwrap();
        assert!(Sink::open(&path, NAME).is_err(), "{foreign:?}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), foreign);
    }
    for torn in [text, &format!("{note}{text}"), &NAME[..4]] {
        std::fs::write(&path, torn).unwrap();
        assert!(Sink::open(&path, NAME).is_ok(), "negative control: {torn:?}");
    }
}

#[test]
fn checkpoint_notes_read_one_at_a_time_are_those_of_the_whole_text() {
    /// By the whole text at once.
    fn whole(text: &str) -> Vec<String> {
        let (mut notes, mut parts) =
            (Vec::new(), text.split("\n\n").filter(|part| !part.is_empty()).peekable());
        while let Some(part) = parts.next() {
            match parts.next_if(|next| next.starts_with("\u{2014} ")) {
                Some(signatures) => notes.push(format!("{part}\n\n{signatures}\n")),
                None => notes.push(part.to_owned()),
            }
        }
        notes
    }
    let words = ["\n", "a", "\u{2014} s"];
    for number in 0..3_usize.pow(8) {
        let text: String = (0..8).map(|at| words[number / 3_usize.pow(at) % 3]).collect();
        assert_eq!(notes(&text), whole(&text), "{text:?}");
    }
    // What has no end is handed on in parts, and no more than one is held.
    let long = "a".repeat(100_000);
    let found = notes(&long);
    assert!(found.len() > 5 && found.concat() == long, "{}", found.len());
}

#[test]
fn checkpoint_that_somebody_kept_is_a_note_or_a_copy_of_the_file_of_them() {
    let signer = Signer::from_bytes(&[5; 32], "tidegate/test");
    let [one, two] = [1, 2].map(|size| signer.sign(1, size, [7; 32]));
    let file = sink::entry(&one) + &sink::entry(&two);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kept");
    let of = |text: &str| {
        std::fs::write(&path, text).unwrap();
        signer.public().open(&kept(&path).unwrap()).map(|kept| kept.size)
    };
    assert_eq!((of(&one), of(&two)), (Ok(1), Ok(2)), "a note alone");
    assert_eq!((of(&sink::entry(&one)), of(&file)), (Ok(1), Ok(2)), "a copy of the file: its newest");
    assert_eq!(of(&file[..file.len() - 9]), Ok(1), "one that was copied while the newest was written");
    for bad in ["", "a letter\n", &one[..one.len() - 9], &file.replace("\n2\n", "\n3\n")] {
        assert!(of(bad).is_err(), "negative control: {bad:?}");
    }
    assert!(kept(&dir.path().join("nothing")).is_err());
}

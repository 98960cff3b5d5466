//! Accounts under construction: users with allow-lists, and links, each of them an export and its import.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// The accounts of a cell.
#[derive(Debug, Default)]
pub(super) struct Mesh {
    accounts: BTreeMap<String, Account>,
}

#[derive(Debug, Default)]
struct Account {
    jetstream: bool,
    users: Vec<User>,
    exports: BTreeMap<(Kind, String), BTreeSet<String>>,
    imports: BTreeSet<Import>,
}

#[derive(Debug)]
struct User {
    comment: String,
    nkey: String,
    publish: Vec<String>,
    subscribe: Vec<String>,
}

/// What a link carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Messages into the exporting account, at most one answer each.
    Service,
    /// The same, with any number of answers.
    Answers,
    /// Messages out of the exporting account.
    Stream,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Import {
    kind: Kind,
    account: String,
    subject: String,
    to: Option<String>,
}

impl Mesh {
    /// Lets an account keep streams.
    pub(super) fn jetstream(&mut self, account: &str) {
        self.account(account).jetstream = true;
    }

    /// Adds a user with all it may publish and subscribe.
    pub(super) fn user(
        &mut self,
        account: &str,
        comment: String,
        nkey: String,
        publish: impl IntoIterator<Item = String>,
        subscribe: impl IntoIterator<Item = String>,
    ) {
        let (publish, subscribe) = (publish.into_iter().collect(), subscribe.into_iter().collect());
        self.account(account).users.push(User { comment, nkey, publish, subscribe });
    }

    /// Lets `importer` use `subject` of `owner` under the same name.
    pub(super) fn link(&mut self, kind: Kind, owner: &str, importer: &str, subject: impl Into<String>) {
        self.link_as(kind, owner, importer, subject.into(), None);
    }

    /// Lets `importer` use `subject` of `owner` under another name. For services `to` repeats the wildcards, for streams it
    /// numbers them.
    pub(super) fn link_to(&mut self, kind: Kind, owner: &str, importer: &str, subject: String, to: &str) {
        self.link_as(kind, owner, importer, subject, Some(to.to_owned()));
    }

    fn link_as(&mut self, kind: Kind, owner: &str, importer: &str, subject: String, to: Option<String>) {
        let exports = &mut self.account(owner).exports;
        exports.entry((kind, subject.clone())).or_default().insert(importer.to_owned());
        self.account(importer).imports.insert(Import { kind, account: owner.to_owned(), subject, to });
    }

    fn account(&mut self, name: &str) -> &mut Account {
        self.accounts.entry(name.to_owned()).or_default()
    }

    /// The accounts in the server's configuration language.
    pub(super) fn render(&self) -> String {
        let mut out = String::from(
            "# Written by tidegate from the cell's directory; changes by hand are overwritten.\naccounts {\n",
        );
        for (name, account) in &self.accounts {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "  \"{name}\" {{");
            if account.jetstream {
                out.push_str("    jetstream: enabled\n");
            }
            out.push_str("    users [\n");
            account.users.iter().for_each(|user| user.render(&mut out));
            out.push_str("    ]\n    exports [\n");
            for ((kind, subject), importers) in &account.exports {
                let kind = match kind {
                    Kind::Service => format!("service: \"{subject}\""),
                    Kind::Answers => format!("service: \"{subject}\", response_type: stream"),
                    Kind::Stream => format!("stream: \"{subject}\""),
                };
                let _ = writeln!(out, "      {{ {kind}, accounts: [{}] }}", quoted(importers));
            }
            out.push_str("    ]\n    imports [\n");
            account.imports.iter().for_each(|import| import.render(&mut out));
            out.push_str("    ]\n  }\n");
        }
        out.push_str("}\n");
        out
    }
}

impl User {
    fn render(&self, out: &mut String) {
        let _ = write!(
            out,
            "      {{ # {}\n        nkey: {}\n        permissions {{\n          publish {{ allow: [{}] }}\n          subscribe {{ allow: [{}] }}\n        }}\n      }}\n",
            self.comment,
            self.nkey,
            quoted(&self.publish),
            quoted(&self.subscribe)
        );
    }
}

impl Import {
    fn render(&self, out: &mut String) {
        let word = if self.kind == Kind::Stream { "stream" } else { "service" };
        let to = self.to.as_ref().map(|to| format!(", to: \"{to}\"")).unwrap_or_default();
        let (account, subject) = (&self.account, &self.subject);
        let _ = writeln!(out, "      {{ {word}: {{ account: \"{account}\", subject: \"{subject}\" }}{to} }}");
    }
}

fn quoted<'a>(list: impl IntoIterator<Item = &'a String>) -> String {
    list.into_iter().map(|item| format!("\"{item}\"")).collect::<Vec<_>>().join(", ")
}

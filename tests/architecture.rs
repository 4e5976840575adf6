//! The layers of ARCHITECTURE.md, held by a test: a module imports modules of lower rows only.
//!
//! The checker reads the sources as Rust tokens, so comments and strings can't fool it. It is itself tested on code
//! that breaks each rule.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// The rows, from the top one down. Modules on one row do not know each other.
const ROWS: &[&[&str]] = &[
    &["main"],
    &["app"],
    &["config"],
    &["signaling", "http"],
    &["live"],
    &["ingest"],
    &["worker", "egress"],
    &["sfu", "storage"],
    &["media", "platform"],
    &["ids"],
];

/// The longest file, in lines.
const MAX_LINES: usize = 600;

/// Names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] = &["utils", "util", "common", "helpers", "helper", "manager", "misc"];

#[test]
fn the_sources_keep_the_architecture() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "tests", "benches"] {
        collect(&root.join(folder), &mut files);
    }
    assert!(files.len() > 20, "only {} sources found: is the test looking in the right place?", files.len());
    let mut broken = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let shown = file.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
        broken.extend(check(&shown, &text));
    }
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

#[test]
fn every_module_has_a_row_and_lib_names_only_modules() {
    let lib = include_str!("../src/lib.rs");
    for line in lib.lines().filter(|line| !line.starts_with("//")) {
        let module = line.strip_prefix("pub mod ").and_then(|rest| rest.strip_suffix(';'));
        match module {
            Some(module) => assert!(row(module).is_some(), "{module} has no row in the table"),
            None => assert!(line.trim().is_empty(), "lib.rs names modules and nothing else: {line}"),
        }
    }
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("node_modules") {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn row(module: &str) -> Option<usize> {
    ROWS.iter().position(|row| row.contains(&module))
}

/// Everything that is wrong with one file, each as a line that names it.
fn check(file: &str, text: &str) -> Vec<String> {
    let mut broken = Vec::new();
    let lines = text.lines().count();
    if lines > MAX_LINES {
        broken.push(format!("{file}: {lines} lines, {MAX_LINES} are allowed"));
    }
    let stem = |part: &str| part.trim_end_matches(".rs").to_owned();
    let parts: Vec<String> = file.split('/').map(stem).collect();
    if let Some(name) = parts.iter().find(|part| EMPTY_NAMES.contains(&part.as_str())) {
        broken.push(format!("{file}: a module named `{name}` says nothing about what is inside"));
    }
    let tokens: TokenStream = match text.parse() {
        Ok(tokens) => tokens,
        Err(error) => {
            broken.push(format!("{file}: no Rust: {error}"));
            return broken;
        }
    };
    let is_test = parts.iter().any(|part| part == "tests" || part == "benches");
    let mut found = Found::default();
    walk(tokens, &mut found);
    if found.super_super {
        broken.push(format!("{file}: `super::super` hides where a path leads: write `crate::…`"));
    }
    if is_test || file == "src/lib.rs" {
        return broken;
    }
    let from = parts.get(1).map_or("", String::as_str);
    let from = if from == "bin" { "main" } else { from };
    // Only in a file directly under src does `super` mean the crate itself.
    let mut targets = found.of_crate;
    if parts.len() == 2 {
        targets.extend(found.of_super);
    }
    for to in targets {
        broken.extend(arrow(from, &to).map(|why| format!("{file}: {from} -> {to}: {why}")));
    }
    broken
}

/// Why module `from` may not use module `to`.
fn arrow(from: &str, to: &str) -> Option<String> {
    if from == to {
        return None;
    }
    match (row(from), row(to)) {
        (None, _) => Some(format!("{from} has no row in the table")),
        (_, None) => Some(format!("{to} has no row in the table")),
        (Some(above), Some(below)) if above < below => None,
        (Some(above), Some(below)) if above == below => {
            Some("modules on one row don't know each other".into())
        }
        _ => Some("imports point down only".into()),
    }
}

/// What the paths of a file name first.
#[derive(Default)]
struct Found {
    /// Behind `crate::` or `weir::`.
    of_crate: BTreeSet<String>,
    /// Behind `super::`.
    of_super: BTreeSet<String>,
    super_super: bool,
}

/// Finds paths in `tokens`, skipping `#[cfg(test)]` items.
fn walk(tokens: TokenStream, found: &mut Found) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        if is_cfg_test(&tokens, at) {
            at = end_of_item(&tokens, at + 2);
            continue;
        }
        match token {
            TokenTree::Group(group) => walk(group.stream(), found),
            TokenTree::Ident(ident) if is_path_sep(&tokens, at + 1) => {
                let begins = at < 2 || !is_path_sep(&tokens, at - 2);
                let behind = tokens.get(at + 3);
                match ident.to_string().as_str() {
                    "crate" | "weir" if begins => first_names(behind, &mut found.of_crate),
                    "super" => {
                        found.super_super |= begins && names(behind, "super");
                        first_names(behind, &mut found.of_super);
                    }
                    _ => {}
                }
            }
            _ => {}
        }
        at += 1;
    }
}

/// The module names that can follow `crate::`: one, or those at the front of each part of a group.
fn first_names(token: Option<&TokenTree>, into: &mut BTreeSet<String>) {
    match token {
        Some(TokenTree::Ident(ident)) => {
            into.insert(ident.to_string());
        }
        Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
            let inner: Vec<TokenTree> = group.stream().into_iter().collect();
            for part in inner.split(|token| is_punct(Some(token), ',')) {
                if !names(part.first(), "self") {
                    first_names(part.first(), into);
                }
            }
        }
        Some(token) if is_punct(Some(token), '*') => {
            into.insert("*".into());
        }
        _ => {}
    }
}

fn names(token: Option<&TokenTree>, name: &str) -> bool {
    matches!(token, Some(TokenTree::Ident(ident)) if ident == name)
}

fn is_punct(token: Option<&TokenTree>, wanted: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == wanted)
}

fn is_path_sep(tokens: &[TokenTree], at: usize) -> bool {
    is_punct(tokens.get(at), ':') && is_punct(tokens.get(at + 1), ':')
}

/// Whether an attribute `#[cfg(test)]` begins here.
fn is_cfg_test(tokens: &[TokenTree], at: usize) -> bool {
    let (true, Some(TokenTree::Group(group))) = (is_punct(tokens.get(at), '#'), tokens.get(at + 1)) else {
        return false;
    };
    group.delimiter() == Delimiter::Bracket && group.stream().to_string().replace(' ', "") == "cfg(test)"
}

/// Behind the item that begins here: behind its `;` or its braces.
fn end_of_item(tokens: &[TokenTree], from: usize) -> usize {
    let ends = |token: &TokenTree| {
        is_punct(Some(token), ';')
            || matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace)
    };
    tokens.iter().skip(from).position(ends).map_or(tokens.len(), |length| from + length + 1)
}

mod the_checker {
    use super::*;

    fn broken(file: &str, text: &str) -> String {
        check(file, text).join("\n")
    }

    #[test]
    fn allows_what_points_down() {
        for (file, text) in [
            ("src/live.rs", "use crate::worker::RouterHandle; use crate::ids::{PeerId, ProducerId};"),
            ("src/live/event.rs", "use crate::{egress::{self, Track}, sfu::api};"),
            ("src/http/hls.rs", "use super::range; use crate::http::range;"),
            ("src/main.rs", "use weir::app::App; use weir::config::{self, Config};"),
            ("src/sfu/api.rs", "use super::Worker; use crate::media::ortc;"),
        ] {
            assert_eq!(broken(file, text), "", "{file}: {text}");
        }
    }

    #[test]
    fn refuses_an_arrow_that_points_up_and_names_it() {
        assert_eq!(
            broken("src/sfu/pacer.rs", "use crate::worker::Config;"),
            "src/sfu/pacer.rs: sfu -> worker: imports point down only"
        );
        assert!(broken("src/ids.rs", "use crate::media;").contains("ids -> media"));
    }

    #[test]
    fn refuses_a_neighbour() {
        let message = broken("src/http.rs", "use crate::signaling::Stats;");
        assert!(message.contains("http -> signaling") && message.contains("one row"), "{message}");
        assert!(broken("src/egress/tap.rs", "use crate::worker;").contains("egress -> worker"));
    }

    #[test]
    fn finds_arrows_in_groups_bodies_macros_and_types() {
        for text in [
            "use crate::{ids::PeerId, live::{self, Room}};",
            "fn f() { let room = crate::live::Room::new(); }",
            "fn f(room: &crate::live::Room) {}",
            "fn f() { println!(\"{}\", crate::live::EVENT_BACKLOG); }",
            "pub use crate :: live :: Room;",
            "pub(in crate::live) fn f() {}",
            "mod inner { use crate::live::Room; }",
            "#[cfg(not(test))] use crate::live::Room;",
            "#[cfg(test)] mod tests { } use crate::live::Room;",
            "#[cfg(test)] use std::fmt; fn f() { crate::live::f() }",
        ] {
            assert!(broken("src/media/rtp.rs", text).contains("media -> live"), "{text}");
        }
    }

    #[test]
    fn sees_through_super_in_a_file_at_the_top() {
        assert!(broken("src/media.rs", "use super::live::Room;").contains("media -> live"));
        assert!(broken("src/media.rs", "use super::{ids, live};").contains("media -> live"));
        assert_eq!(broken("src/media/rtp.rs", "use super::live;"), "");
    }

    #[test]
    fn is_not_fooled_by_comments_strings_tests_and_other_crates() {
        for text in [
            "// use crate::live::Room;\n/* crate::live */",
            "//! [`Room`](crate::live::Room)\n",
            "const TEXT: &str = \"crate::live::Room\";",
            "const TEXT: &str = r#\"use crate::live::Room;\"#;",
            "#[cfg(test)] mod tests { use crate::live::Room; }",
            "#[cfg(test)] use crate::live::Room;",
            "use other::live::Room; use other::crate_::live;",
        ] {
            assert_eq!(broken("src/media/rtp.rs", text), "", "{text}");
        }
        assert_eq!(broken("src/media/rtp/tests.rs", "use crate::live::Room;"), "");
    }

    #[test]
    fn refuses_everything_of_the_crate_at_once() {
        assert!(broken("src/live.rs", "use crate::*;").contains("* has no row"));
    }

    #[test]
    fn refuses_a_module_without_a_row() {
        assert!(broken("src/live.rs", "use crate::novelty::Thing;").contains("novelty has no row"));
        assert!(broken("src/novelty.rs", "use crate::ids::PeerId;").contains("novelty has no row"));
    }

    #[test]
    fn refuses_super_super() {
        for file in ["src/live/hls.rs", "src/live/tests.rs", "tests/story.rs"] {
            assert!(broken(file, "use super::super::http;").contains("super::super"), "{file}");
        }
        assert_eq!(broken("src/live/hls.rs", "// super::super\nuse super::event;"), "");
    }

    #[test]
    fn refuses_long_files_and_empty_names() {
        let long = "\n".repeat(MAX_LINES + 1);
        assert!(broken("src/live.rs", &long).contains("601 lines"));
        assert_eq!(broken("src/live.rs", &"\n".repeat(MAX_LINES)), "");
        for file in ["src/media/utils.rs", "src/common.rs", "src/live/helpers/ids.rs", "tests/common.rs"] {
            assert!(broken(file, "").contains("says nothing"), "{file}");
        }
    }
}

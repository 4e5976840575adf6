//! Builds the crate again when the web demo was: a release binary holds the demo's files.

use std::{env, fs, path::Path};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // A debug binary reads the files from disk when they are asked for.
    if env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        let built = Path::new("web-demo/dist");
        // Cargo takes a folder that is missing for one that always changes.
        if let Err(error) = fs::create_dir_all(built) {
            println!("cargo::warning={} can't be created: {error}", built.display());
        }
        println!("cargo::rerun-if-changed={}", built.display());
    }
}

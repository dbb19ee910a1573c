//! Compile the one schema of both transports. protox needs no protoc.

use std::path::{Path, PathBuf};

fn main() {
    // Asked at run time: a build shared by several checkouts must read the schema of the one it builds.
    let manifest = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let root = Path::new(&manifest).join("../..");
    let folder = root.join("mooseng_py/proto");
    println!("cargo:rerun-if-changed={}", folder.display());
    let files: Vec<PathBuf> =
        ["common", "name", "data", "cluster", "raft"].iter().map(|name| folder.join(format!("{name}.proto"))).collect();
    let descriptors = protox::compile(&files, [&root]).expect("the .proto files compile");
    let mut config = prost_build::Config::new();
    config.bytes([".mooseng.v1.NameReply.inline_data", ".mooseng.v1.WriteInline.data", ".mooseng.v1.Entry.batch"]);
    config.compile_fds(descriptors).expect("prost generates from the descriptors");
}

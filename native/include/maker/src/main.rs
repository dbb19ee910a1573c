//! Writes native/include/mooseng.h from the source of crate ffi. Run it after a change of the boundary, from native/:
//! `cargo run --manifest-path include/maker/Cargo.toml --target-dir target/header-maker`

use std::path::Path;

fn main() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (source, header) = (here.join("../../ffi"), here.join("../mooseng.h"));
    let mut config = cbindgen::Config::from_root_or_default(&source);
    config.header = Some("/* The C boundary of MooseNG. Made by native/include/maker; do not edit. */".to_string());
    config.include_guard = Some("MOOSENG_H".to_string());
    config.no_includes = true;
    config.sys_includes = vec!["stdint.h".to_string()];
    let bindings = cbindgen::Builder::new().with_crate(&source).with_config(config).generate();
    bindings.expect("cbindgen reads crate ffi").write_to_file(header);
}

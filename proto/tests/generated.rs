//! The committed messages match the .proto files. `UPDATE_GENERATED=1 cargo test -p celeriac-proto`
//! writes them anew.

use std::path::Path;

#[test]
fn committed_messages_match_the_proto_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let descriptors =
        protox::compile(["celeriac/v1/frame.proto"], [root]).expect("the .proto files compile");
    let out = std::env::temp_dir().join(format!("celeriac-generated-{}", std::process::id()));
    std::fs::create_dir_all(&out).expect("a temporary folder");
    prost_build::Config::new()
        .out_dir(&out)
        .bytes(["."])
        .btree_map(["."])
        .compile_fds(descriptors)
        .expect("messages are generated");
    let fresh = std::fs::read_to_string(out.join("celeriac.v1.rs")).expect("one package, one file");
    std::fs::remove_dir_all(&out).expect("the temporary folder goes");

    let committed = root.join("src/generated.rs");
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        std::fs::write(&committed, &fresh).expect("src/generated.rs is writable");
    }
    let present = std::fs::read_to_string(&committed).expect("src/generated.rs");
    assert!(
        present == fresh,
        "src/generated.rs is out of date: UPDATE_GENERATED=1 cargo test -p celeriac-proto"
    );
}

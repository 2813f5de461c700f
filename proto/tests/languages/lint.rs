//! `buf lint` by the rules of buf.yaml.

use crate::{root, scratch, succeeds, tool};

#[test]
fn buf_finds_nothing_in_the_proto_files() {
    let Some(mut buf) = tool("buf") else { return };
    succeeds(buf.arg("lint").current_dir(root()).env("BUF_CACHE_DIR", scratch().join("buf")));
}

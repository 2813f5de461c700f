//! The code that protoc writes for other languages, and that protoc-gen-es writes for TypeScript
//! where npm is installed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{fresh_folder, printed, proto_files, root, scratch, succeeds, tool};

/// The plugin for TypeScript, and the target of its output.
const PROTOC_GEN_ES: [&str; 2] = ["@bufbuild/protoc-gen-es@2.17.0", "@bufbuild/protobuf@2.17.0"];

/// Runs protoc with the generator of one language. Returns the files that it wrote, sorted, or
/// `None` when protoc is not installed.
fn generated(language: &str, options: &[String]) -> Option<(PathBuf, Vec<PathBuf>)> {
    let mut protoc = tool("protoc")?;
    let folder = fresh_folder(&format!("protoc-{language}"));
    let out = format!("--{language}_out={}", folder.display());
    succeeds(protoc.current_dir(root()).arg("-I.").arg(out).args(options).args(proto_files()));
    let mut files = Vec::new();
    collect(&folder, &mut files);
    files.sort();
    Some((folder, files))
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("it was made here") {
        let path = entry.expect("it is readable").path();
        if path.is_dir() { collect(&path, files) } else { files.push(path) }
    }
}

/// The words after one of `keywords` at the beginning of a line: public names.
fn declared(file: &Path, keywords: &[&str]) -> Vec<String> {
    let text = fs::read_to_string(file).expect("it was made here");
    let names = text.lines().filter_map(|line| {
        let rest = keywords.iter().find_map(|keyword| line.strip_prefix(keyword))?;
        let end = rest
            .find(|letter: char| !letter.is_alphanumeric() && !"_$".contains(letter))
            .unwrap_or(rest.len());
        Some(rest[..end].to_owned())
    });
    names.collect()
}

fn assert_used_once(language: &str, names: impl IntoIterator<Item = String>) {
    let mut seen = BTreeSet::new();
    for name in names {
        assert!(
            seen.insert(name.clone()),
            "{language} has `{name}` twice: rename one of them in the .proto files"
        );
    }
    assert!(!seen.is_empty(), "names of {language} are found");
}

#[test]
fn java_has_a_file_for_every_message_and_none_for_two() {
    let Some((_, files)) = generated("java", &[]) else { return };
    assert!(files.len() > 100, "java_multiple_files: {}", files.len());
    // Many file systems take `Task.java` and `TASK.java` for one file.
    let mut folded: BTreeMap<String, &PathBuf> = BTreeMap::new();
    for file in &files {
        if let Some(other) = folded.insert(file.to_string_lossy().to_lowercase(), file) {
            panic!(
                "{} and {} are one file where case is not told apart",
                other.display(),
                file.display()
            );
        }
    }
    let keywords = ["public final class ", "public interface ", "public enum "];
    assert_used_once("Java", files.iter().flat_map(|file| declared(file, &keywords)));
}

#[test]
fn csharp_has_a_file_for_every_proto_file_and_no_class_twice() {
    let Some((_, files)) = generated("csharp", &[]) else { return };
    assert_eq!(files.len(), proto_files().len(), "{files:?}");
    let keywords = [
        "  public sealed partial class ",
        "  public static partial class ",
        "  public static class ",
        "  public enum ",
    ];
    assert_used_once("C#", files.iter().flat_map(|file| declared(file, &keywords)));
}

/// Python's own protobuf reads every vector, reads its fields as text, and encodes both into the
/// same bytes.
#[test]
fn python_reads_every_vector_and_writes_the_same_bytes() {
    let Some((folder, files)) = generated("python", &[]) else { return };
    assert_eq!(files.len(), proto_files().len(), "{files:?}");
    let Some(mut python) = tool("python") else { return };
    let script = root().join("tests/languages/vectors.py");
    let output = succeeds(python.arg(script).arg(root().join("vectors")).env("PYTHONPATH", folder));
    eprintln!("{}", printed(&output).trim_end());
}

/// The plugin, as npm installs it, or the reason why it cannot be installed.
fn protoc_gen_es() -> Result<PathBuf, String> {
    let folder = scratch().join(PROTOC_GEN_ES[0].replace(['@', '/'], "-"));
    let plugin = folder.join("node_modules/.bin/protoc-gen-es");
    if !plugin.exists() {
        fs::create_dir_all(&folder).expect("the folder of what is built is writable");
        let mut npm = Command::new("npm");
        npm.args([
            "install",
            "--silent",
            "--no-audit",
            "--no-fund",
            "--no-save",
            "--fetch-retries=1",
            "--prefix",
        ])
        .arg(&folder);
        let output = npm
            .args(PROTOC_GEN_ES)
            .output()
            .map_err(|error| format!("npm does not start: {error}"))?;
        if !output.status.success() || !plugin.exists() {
            return Err(format!("npm cannot install {}: {}", PROTOC_GEN_ES[0], printed(&output)));
        }
    }
    Ok(plugin)
}

#[test]
fn typescript_has_a_file_for_every_proto_file_and_no_name_twice_in_it() {
    let plugin = match protoc_gen_es() {
        Ok(plugin) => plugin,
        Err(reason) => {
            return eprintln!(
                "SKIPPED: what protoc makes for TypeScript was not looked at: {reason}"
            );
        }
    };
    let plugin = format!("--plugin=protoc-gen-es={}", plugin.display());
    let Some((_, files)) = generated("es", &[plugin, "--es_opt=target=ts".to_owned()]) else {
        return;
    };
    assert_eq!(files.len(), proto_files().len(), "{files:?}");
    for file in &files {
        assert_used_once(
            "TypeScript",
            declared(file, &["export type ", "export const ", "export enum "]),
        );
    }
}

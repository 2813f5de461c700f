//! What of Redis's protocol is needed to keep requests under way: how to write a command, and where
//! an answer ends.

use anyhow::{Result, bail};

use super::wire::{line, number};

/// Appends a command.
pub(super) fn command(out: &mut Vec<u8>, words: &[&[u8]]) {
    begin(out, words.len());
    for word in words {
        argument(out, word);
    }
}

/// Begins a command of so many words, which [`argument`] appends.
pub(super) fn begin(out: &mut Vec<u8>, words: usize) {
    out.push(b'*');
    digits(out, words);
}

pub(super) fn argument(out: &mut Vec<u8>, word: &[u8]) {
    out.push(b'$');
    digits(out, word.len());
    out.extend_from_slice(word);
    out.extend_from_slice(b"\r\n");
}

fn digits(out: &mut Vec<u8>, number: usize) {
    out.extend_from_slice(number.to_string().as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// How long the first answer is, if it is there as a whole; a refusal, at whatever depth, is an
/// error.
pub(super) fn scan(bytes: &[u8]) -> Result<Option<usize>> {
    let Some((line, mut end)) = line(bytes) else { return Ok(None) };
    let Some((kind, rest)) = line.split_first() else { bail!("an empty line from the server") };
    match kind {
        b'-' => bail!("refused: {}", String::from_utf8_lossy(rest)),
        b'+' | b':' => {}
        b'$' => {
            if let Ok(length) = usize::try_from(number(rest)?) {
                end += length + 2;
            }
        }
        b'*' => {
            for _ in 0..number(rest)? {
                match scan(&bytes[end..])? {
                    Some(length) => end += length,
                    None => return Ok(None),
                }
            }
        }
        _ => bail!("no answer begins so: {}", String::from_utf8_lossy(line)),
    }
    Ok((end <= bytes.len()).then_some(end))
}

/// All strings of a whole answer in their order, whatever lists they stand in.
pub(super) fn strings(mut bytes: &[u8]) -> Result<Vec<&[u8]>> {
    let mut found = Vec::new();
    while let Some((line, end)) = line(bytes) {
        bytes = &bytes[end..];
        if let Some(length) = line.strip_prefix(b"$")
            && let Ok(length) = usize::try_from(number(length)?)
        {
            found.push(&bytes[..length]);
            bytes = &bytes[length + 2..];
        }
    }
    Ok(found)
}

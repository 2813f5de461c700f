//! The words for values of the protocol in logs and in sentences for people. Programs read the
//! values themselves.

use crate::wire::ErrorCode;

/// A code as the prose of `PROTOCOL.md` writes it: `queue_full`.
pub fn code_name(code: ErrorCode) -> String {
    code.as_str_name().trim_start_matches("ERROR_CODE_").to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_has_the_name_of_the_prose() {
        assert_eq!(code_name(ErrorCode::QueueFull), "queue_full");
        assert_eq!(code_name(ErrorCode::Unspecified), "unspecified");
    }
}

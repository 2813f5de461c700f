//! The filter of the log, which belongs to the program around the broker: clients may change it
//! through the broker.

use std::fmt;
use std::sync::Arc;

use celeriac_machine::command::{Ask, Code, Command, Operate, Refusal};
use tracing::info;

/// Changes the filter if there is a new one, and returns the one that counts. The error says in one
/// sentence what is wrong with the new one.
type Change = dyn Fn(Option<&str>) -> Result<String, String> + Send + Sync;

/// The filter of the log of the program around a broker.
#[derive(Clone)]
pub struct LogFilter(Arc<Change>);

impl LogFilter {
    /// A filter that `change` changes, if it is given a new one, and shows. It must not block.
    pub fn new(
        change: impl Fn(Option<&str>) -> Result<String, String> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(change))
    }
}

impl fmt::Debug for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LogFilter").finish_non_exhaustive()
    }
}

/// Carries out a request about the filter of the log, before the machine answers it. A session
/// calls this when the client has the right to make its request. Other commands stay as they are.
pub(crate) fn carry_out(command: &mut Command, log: Option<&LogFilter>) {
    let Command::Request { connection, ask, .. } = command else { return };
    let Ask::Operate(Operate::LogFilter(filter)) = ask else { return };
    let Some(LogFilter(change)) = log else {
        let text = "the log belongs to the program around this broker, and cannot be changed here";
        *ask = Ask::Refuse(Refusal::new(Code::Unsupported, text));
        return;
    };
    match change(filter.as_deref()) {
        Ok(counts) => {
            if filter.is_some() {
                info!(connection, filter = counts, "a client has changed the filter of the log");
            }
            *filter = Some(counts.into());
        }
        Err(sentence) => *ask = Ask::Refuse(Refusal::new(Code::InvalidArgument, sentence)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(filter: Option<&str>) -> Command {
        let ask = Ask::Operate(Operate::LogFilter(filter.map(Into::into)));
        Command::Request { connection: 1, request: 2, ask }
    }

    fn outcome(filter: Option<&str>, log: Option<&LogFilter>) -> Result<String, (Code, String)> {
        let mut command = asked(filter);
        carry_out(&mut command, log);
        match command {
            Command::Request { ask: Ask::Operate(Operate::LogFilter(Some(filter))), .. } => {
                Ok(filter.into())
            }
            Command::Request { ask: Ask::Refuse(refusal), .. } => {
                Err((refusal.code, refusal.message.into()))
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn o21_a_filter_is_changed_shown_or_refused_with_a_sentence() {
        let counts = std::sync::Mutex::new("info".to_owned());
        let log = LogFilter::new(move |new| {
            let mut counts = counts.lock().expect("nobody panics");
            match new {
                Some("loud") => return Err("`loud` is no level".to_owned()),
                Some(new) => new.clone_into(&mut counts),
                None => {}
            }
            Ok(counts.clone())
        });
        assert_eq!(outcome(None, Some(&log)), Ok("info".to_owned()));
        assert_eq!(outcome(Some("debug"), Some(&log)), Ok("debug".to_owned()));
        let refused = (Code::InvalidArgument, "`loud` is no level".to_owned());
        assert_eq!(outcome(Some("loud"), Some(&log)), Err(refused));
        assert_eq!(outcome(None, Some(&log)), Ok("debug".to_owned()));
    }

    #[test]
    fn o21_a_broker_inside_of_another_program_leaves_the_log_alone() {
        for filter in [None, Some("debug")] {
            let (code, _) = outcome(filter, None).expect_err("there is no filter");
            assert_eq!(code, Code::Unsupported);
        }
    }
}

//! What the broker's answer to a report means. `report_sender` acts on it.

use celeriac_client::ErrorCode;
use celeriac_proto::code_name;
use celeriac_proto::wire::task_report::Report;
use celeriac_proto::wire::{Reject, TaskError, TaskReport};

/// What happens to a report after its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The broker has the report.
    Answered,
    /// The report's lease is lost.
    Stale,
    /// The broker cannot take the report now: send it again.
    Again,
    /// The broker never takes the report.
    Refused,
}

/// What the code of an outcome means.
pub(crate) fn verdict(code: i32) -> Verdict {
    // An unknown code of a later broker is a final refusal.
    let Ok(code) = ErrorCode::try_from(code) else { return Verdict::Refused };
    match code {
        // With a result that is too large the broker has already ended the task as a failure.
        ErrorCode::Unspecified | ErrorCode::ResultTooLarge => Verdict::Answered,
        // The task is gone or was given to another worker.
        ErrorCode::StaleLease | ErrorCode::NotFound | ErrorCode::SessionLost => Verdict::Stale,
        // The broker may take the same report in a moment.
        ErrorCode::Overloaded
        | ErrorCode::Internal
        | ErrorCode::ShuttingDown
        | ErrorCode::DeadlineExceeded
        | ErrorCode::DiskFull => Verdict::Again,
        _ => Verdict::Refused,
    }
}

/// The report in place of an end that the broker refused: a rejection of the task with the reason.
/// `None` when the refused report was a rejection already.
pub(crate) fn substitute(report: &TaskReport, code: ErrorCode) -> Option<TaskReport> {
    if let Some(Report::Reject(_)) = report.report {
        return None;
    }
    let error = TaskError {
        kind: "report_refused".to_owned(),
        message: format!("the broker refused the report of this run's end: {}", code_name(code)),
        ..TaskError::default()
    };
    let report = TaskReport {
        report: Some(Report::Reject(Reject { error: Some(error) })),
        ..report.clone()
    };
    Some(report)
}

#[cfg(test)]
mod tests {
    use celeriac_proto::wire::Complete;

    use super::*;

    #[test]
    fn a_stale_lease_counts_as_an_answer_and_an_overload_does_not() {
        assert_eq!(verdict(ErrorCode::Unspecified as i32), Verdict::Answered);
        assert_eq!(verdict(ErrorCode::StaleLease as i32), Verdict::Stale);
        assert_eq!(verdict(ErrorCode::NotFound as i32), Verdict::Stale);
        assert_eq!(verdict(ErrorCode::Overloaded as i32), Verdict::Again);
        assert_eq!(verdict(ErrorCode::InvalidArgument as i32), Verdict::Refused);
        assert_eq!(verdict(9_999), Verdict::Refused, "a code of a later broker");
    }

    #[test]
    fn a_refused_end_is_replaced_once() {
        let end = TaskReport {
            id: "a".into(),
            lease: 1,
            report: Some(Report::Complete(Complete::default())),
        };
        let rejection = substitute(&end, ErrorCode::InvalidArgument).expect("a rejection");
        assert_eq!((rejection.id.as_str(), rejection.lease), ("a", 1));
        assert_eq!(substitute(&rejection, ErrorCode::InvalidArgument), None);
    }
}

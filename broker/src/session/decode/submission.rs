//! A task as its producer submits it: from the wire to [`Submission`]. If you add an option to a
//! task, check and decode it here.

use bytes::Bytes;
use celeriac_machine::command::{Code, OnConflict, Refusal, Submission, When};
use celeriac_proto::limits::{
    HEADERS_BYTES_MAX, HEADERS_MAX, PRIORITY_DEFAULT, PRIORITY_MAX, SUBMIT_KEY_BYTES_MAX, TAGS_MAX,
};
use celeriac_proto::wire;
use celeriac_proto::{QueueName, RESERVED_TASK_NAMES, TaskId, TaskName};
use celeriac_record::{Backoff, Jitter, MAX_DELIVERIES_DEFAULT, RetryPolicy, TaskSpec};

use super::{Bounds, Checked, invalid, known, short, span, time};

pub(super) fn submission(task: wire::Task, bounds: &Bounds) -> Checked<Submission> {
    let (on_conflict, retry) =
        (known("conflict policy", task.on_conflict)?, task.retry.unwrap_or_default());
    if task.payload.len() > bounds.payload_bytes_max {
        let (bytes, max) = (task.payload.len(), bounds.payload_bytes_max);
        let message = format!("the payload has {bytes} bytes, and {max} are allowed");
        return Err(Refusal::new(Code::PayloadTooLarge, message));
    }
    if task.submit_key.len() > SUBMIT_KEY_BYTES_MAX {
        let message = format!("a submit_key has at most {SUBMIT_KEY_BYTES_MAX} bytes");
        return Err(invalid(message));
    }
    if on_conflict == wire::OnConflict::Beside && task.submit_key.is_empty() {
        return Err(invalid("a submit beside a task of the same id needs a submit_key"));
    }
    if on_conflict != wire::OnConflict::Supersede && task.supersedes_lease != 0 {
        return Err(invalid("a supersedes_lease needs a submit that supersedes"));
    }
    if RESERVED_TASK_NAMES.contains(&&*task.name) {
        return Err(invalid(format!("the broker keeps the task name `{}` for itself", task.name)));
    }
    let priority = task.priority.unwrap_or(PRIORITY_DEFAULT);
    if priority > PRIORITY_MAX {
        return Err(invalid(format!(
            "priorities go from 0 to {PRIORITY_MAX}, this one is {priority}"
        )));
    }
    Ok(Submission {
        eta: when("eta", task.eta_at_ms, task.countdown_ms)?,
        expires: when("expiry", task.expires_at_ms, task.expires_in_ms)?,
        result_ttl_ms: span("result_ttl_ms", task.result_ttl_ms, 0)?,
        on_conflict: match on_conflict {
            wire::OnConflict::RunAgainIfFinished => OnConflict::RunAgainIfFinished,
            wire::OnConflict::Reject => OnConflict::Reject,
            wire::OnConflict::Replace => OnConflict::Replace,
            wire::OnConflict::RunAgainAfter => OnConflict::RunAgainAfter,
            wire::OnConflict::Supersede => OnConflict::Supersede { lease: task.supersedes_lease },
            wire::OnConflict::Beside => OnConflict::Beside,
        },
        spec: TaskSpec {
            id: TaskId::parse(task.id)?,
            name: TaskName::parse(task.name)?,
            queue: if task.queue.is_empty() {
                QueueName::default()
            } else {
                QueueName::parse(task.queue)?
            },
            payload: task.payload,
            content_type: short("content type", task.content_type)?,
            headers: headers(task.headers)?,
            shadow: short("shadow", task.shadow)?,
            priority: priority as u8,
            retry: retry_policy(retry)?,
            soft_time_limit_ms: span("soft_time_limit_ms", task.soft_time_limit_ms, 1)?,
            time_limit_ms: span("time_limit_ms", task.time_limit_ms, 1)?,
            max_deliveries: at_least_one("max_deliveries", task.max_deliveries)?
                .unwrap_or(MAX_DELIVERIES_DEFAULT),
            early_ack: task.early_ack,
            root_id: short("root id", task.root_id)?,
            parent_id: short("parent id", task.parent_id)?,
            tags: tags(task.tags)?,
            submit_key: short("submit_key", task.submit_key)?,
            lead_ms: span("lead_ms", task.lead_ms, 0)?.unwrap_or(0),
            forget_at_end: task.forget_at_end,
            announce_end: task.announce_end,
        },
    })
}

fn headers(headers: std::collections::BTreeMap<String, Bytes>) -> Checked<Vec<(Box<str>, Bytes)>> {
    if headers.len() > HEADERS_MAX {
        return Err(invalid(format!(
            "a task has at most {HEADERS_MAX} headers, this one has {}",
            headers.len()
        )));
    }
    let bytes: usize = headers.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > HEADERS_BYTES_MAX {
        return Err(invalid(format!(
            "the headers have {bytes} bytes, and {HEADERS_BYTES_MAX} are allowed"
        )));
    }
    headers.into_iter().map(|(key, value)| Ok((short("header's name", key)?, value))).collect()
}

fn tags(tags: Vec<String>) -> Checked<Vec<Box<str>>> {
    if tags.len() > TAGS_MAX {
        return Err(invalid(format!(
            "a task has at most {TAGS_MAX} tags, this one has {}",
            tags.len()
        )));
    }
    if tags.iter().any(String::is_empty) {
        return Err(invalid("a tag must not be empty"));
    }
    tags.into_iter().map(|tag| short("tag", tag)).collect()
}

fn when(what: &str, at: Option<i64>, span_ms: Option<u64>) -> Checked<Option<When>> {
    match (at, span_ms) {
        (Some(_), Some(_)) => Err(invalid(format!("the {what} is a time or a span, not both"))),
        (Some(at), None) => Ok(time(what, Some(at))?.map(When::At)),
        (None, span_ms) => Ok(span(what, span_ms, 0)?.map(When::In)),
    }
}

fn at_least_one(what: &str, count: Option<u32>) -> Checked<Option<u32>> {
    match count {
        Some(0) => Err(invalid(format!("{what} is at least 1"))),
        count => Ok(count),
    }
}

fn retry_policy(policy: wire::RetryPolicy) -> Checked<RetryPolicy> {
    let usual = RetryPolicy::default();
    let factor = policy.factor.unwrap_or(usual.factor);
    if !(0.0..=1_000.0).contains(&factor) {
        return Err(invalid(format!("a retry factor is between 0 and 1000, this one is {factor}")));
    }
    let delay_ms = span("retry delay", policy.delay_ms, 0)?.unwrap_or(usual.delay_ms);
    // The default cap must not shorten a delay that the client set.
    let delay_max_ms = span("longest retry delay", policy.delay_max_ms, 0)?;
    Ok(RetryPolicy {
        attempts_max: at_least_one("max_attempts", policy.max_attempts)?
            .unwrap_or(usual.attempts_max),
        backoff: match known("backoff", policy.backoff)? {
            wire::Backoff::Exponential => Backoff::Exponential,
            wire::Backoff::Fixed => Backoff::Fixed,
            wire::Backoff::Polynomial => Backoff::Polynomial,
        },
        delay_ms,
        factor,
        delay_max_ms: delay_max_ms.unwrap_or(usual.delay_max_ms.max(delay_ms)),
        jitter: match known("jitter", policy.jitter)? {
            wire::Jitter::None => Jitter::None,
            wire::Jitter::Full => Jitter::Full,
            wire::Jitter::Equal => Jitter::Equal,
        },
    })
}

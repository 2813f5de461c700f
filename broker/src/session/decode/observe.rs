//! The requests of clients that follow the states of tasks: from the wire to [`Observe`].

use celeriac_machine::command::Observe;
use celeriac_proto::wire;
use celeriac_record::State;

use super::{Checked, batch, ids, known, known_state};

/// The timeout of a request that sets none.
const TIMEOUT_MS_DEFAULT: u64 = 30_000;

pub(super) fn get(get: wire::Get) -> Checked<Observe> {
    let (with_results, with_payloads) = (get.with_results, get.with_payloads);
    Ok(Observe::Get { ids: ids(get.ids)?, with_results, with_payloads })
}

pub(super) fn wait(wait: wire::Wait, timeout_ms: u64) -> Checked<Observe> {
    Ok(Observe::Wait {
        any: known::<wire::wait::Mode>("mode of wait", wait.mode)? == wire::wait::Mode::Any,
        until: optional_state(wait.until)?,
        with_results: wait.with_results,
        timeout_ms: if timeout_ms == 0 { TIMEOUT_MS_DEFAULT } else { timeout_ms },
        ids: ids(wait.ids)?,
    })
}

pub(super) fn watch(watch: wire::Watch) -> Checked<Observe> {
    Ok(Observe::Watch { ids: ids(watch.ids)?, with_results: watch.with_results })
}

pub(super) fn unwait(unwait: wire::Unwait) -> Checked<Observe> {
    batch(unwait.request_ids.len())?;
    Ok(Observe::Unwait(unwait.request_ids))
}

fn optional_state(state: i32) -> Checked<Option<State>> {
    if state == wire::TaskState::Unknown as i32 { Ok(None) } else { known_state(state).map(Some) }
}

//! The thirteen promises, a group of them to a file. Each rule reports only what the history
//! proves: a request without an answer happened once or not at all, and the broker gets the benefit
//! of every doubt.

mod charges;
mod content;
mod identity;
mod kept;
mod leases;
mod order;
mod redelivery;
mod time;
mod unbegun;
mod versions;

use super::Broken;
use super::reading::Reading;

/// One line for each promise that is broken.
pub(super) fn judge(reading: &Reading<'_>) -> Vec<Broken> {
    let mut broken = Findings::default();
    kept::nothing_confirmed_is_lost(reading, &mut broken);
    content::nothing_appears_and_nothing_changes(reading, &mut broken);
    leases::leases_never_overlap_and_rise(reading, &mut broken);
    redelivery::every_redelivery_has_a_cause(reading, &mut broken);
    redelivery::what_was_completed_is_not_delivered_again(reading, &mut broken);
    order::queues_keep_their_order(reading, &mut broken);
    identity::one_id_has_one_generation_at_a_time(reading, &mut broken);
    identity::an_unknown_request_happened_once_or_not_at_all(reading, &mut broken);
    time::a_confirmed_end_is_readable_until_its_time(reading, &mut broken);
    time::nothing_starts_outside_its_time(reading, &mut broken);
    versions::a_version_names_one_state(reading, &mut broken);
    unbegun::what_is_held_back_does_not_begin(reading, &mut broken);
    charges::only_what_began_is_charged(reading, &mut broken);
    broken.0
}

/// What the rules have found.
#[derive(Default)]
struct Findings(Vec<Broken>);

impl Findings {
    fn add(&mut self, promise: u8, line: impl Into<String>) {
        self.0.push(Broken { promise, line: line.into() });
    }
}

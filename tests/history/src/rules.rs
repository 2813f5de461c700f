//! The fourteen promises, one group to a file. Each rule reports only what the history proves: a
//! request without an answer happened once or not at all, and in every doubt the rule decides for
//! the broker.

mod charges;
mod chords;
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
use super::index::Index;

/// Every violation of a promise.
pub(super) fn judge(index: &Index<'_>) -> Vec<Broken> {
    let mut broken = Findings::default();
    kept::nothing_confirmed_is_lost(index, &mut broken);
    content::nothing_appears_and_nothing_changes(index, &mut broken);
    leases::leases_never_overlap_and_rise(index, &mut broken);
    redelivery::every_redelivery_has_a_cause(index, &mut broken);
    redelivery::what_was_completed_is_not_delivered_again(index, &mut broken);
    order::queues_keep_their_order(index, &mut broken);
    identity::one_id_has_one_generation_at_a_time(index, &mut broken);
    identity::an_unknown_request_happened_once_or_not_at_all(index, &mut broken);
    time::a_confirmed_end_is_readable_until_its_time(index, &mut broken);
    time::nothing_starts_outside_its_time(index, &mut broken);
    versions::a_version_names_one_state(index, &mut broken);
    unbegun::what_is_held_back_does_not_begin(index, &mut broken);
    charges::only_what_began_is_charged(index, &mut broken);
    chords::a_chord_is_counted_and_sent_once(index, &mut broken);
    broken.0
}

/// The violations that the rules have found.
#[derive(Default)]
struct Findings(Vec<Broken>);

impl Findings {
    fn add(&mut self, promise: u8, line: impl Into<String>) {
        self.0.push(Broken { promise, line: line.into() });
    }
}

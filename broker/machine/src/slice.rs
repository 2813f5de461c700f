//! What a look at one task costs. Requests that look at many tasks are done in slices, and the
//! machine has no clock: it counts looks, some nanoseconds each.

/// What a change of one task counts for.
pub(crate) const CHANGE: u32 = 200;
/// What a name of a queue counts for.
pub(crate) const NAME: u32 = 100;
/// What a look at the rules of a task counts for.
pub(crate) const RULES: u32 = 10;

/// What one look at a slot came to.
pub(crate) enum Look {
    /// The look counted for so much.
    Cost(u32),
    /// There is nothing more to look for, from this slot on.
    Enough,
}

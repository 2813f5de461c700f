//! Costs of the work of a scan. A scan is done in slices, and the machine has no clock: it counts
//! looks at a slot, some nanoseconds each.

/// The cost of a change of one task, in looks.
pub(crate) const CHANGE: u32 = 200;
/// The cost of the name of a queue, in looks.
pub(crate) const NAME: u32 = 100;
/// The cost of a look at the rules of a task, in looks.
pub(crate) const RULES: u32 = 10;

/// The outcome of one look at a slot.
pub(crate) enum Look {
    /// The cost of the look.
    Cost(u32),
    /// The scan is complete: no more slots need a look.
    Enough,
}

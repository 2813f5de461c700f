//! The values that a call accepts as the arguments of a task.

use serde_json::Value;

/// Values that a call accepts as the arguments `A` of a task: a tuple with one value for each
/// argument, or the list that the task takes. For an argument of type [`String`] a `&str` or a
/// `&String` is accepted too. The compiler does not infer the type of a value from the argument, as
/// with `impl Into`: write the type where you call `collect` or `parse`.
///
/// ```
/// # fn check(client: &celeriac_client::Client) {
/// use celeriac_client::Task;
///
/// const CLUSTER: Task<(String, u32), Vec<u32>> = Task::new("songs.cluster");
///
/// let call = client.apply_async(&CLUSTER, ("Dynamite", 2));
/// # }
/// ```
///
/// A type of your own that serialises as a list can be the arguments of a task too: implement this
/// trait for it, with the type itself as `A`.
///
/// ```
/// use celeriac_client::IntoArgs;
/// use serde::Serialize;
///
/// #[derive(Serialize)]
/// struct Cluster(String, u32);
///
/// impl IntoArgs<Cluster> for Cluster {
///     fn into_args(self) -> Cluster {
///         self
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "the task takes the arguments `{A}`, and `{Self}` cannot be them",
    label = "not the arguments of this task",
    note = "arguments are a tuple, with a comma also behind a single one: `(title,)`"
)]
pub trait IntoArgs<A> {
    /// Converts the values to the arguments of the task.
    fn into_args(self) -> A;
}

/// A value that a call accepts for an argument of the type `T`.
#[diagnostic::on_unimplemented(
    message = "the task takes a `{T}` here, and `{Self}` is none",
    label = "inside the arguments of this call"
)]
pub trait IntoArgument<T> {
    /// Converts the value to the argument of the task.
    fn into_argument(self) -> T;
}

impl<T> IntoArgument<T> for T {
    fn into_argument(self) -> T {
        self
    }
}

impl IntoArgument<String> for &str {
    fn into_argument(self) -> String {
        self.to_owned()
    }
}

impl IntoArgument<String> for &String {
    fn into_argument(self) -> String {
        self.clone()
    }
}

impl<T> IntoArgs<Vec<T>> for Vec<T> {
    fn into_args(self) -> Vec<T> {
        self
    }
}

impl<T, const N: usize> IntoArgs<[T; N]> for [T; N] {
    fn into_args(self) -> [T; N] {
        self
    }
}

/// Only the submit finds out whether a value is a list. A single text is none; the error says how
/// to write it.
impl IntoArgs<Value> for Value {
    fn into_args(self) -> Value {
        self
    }
}

impl IntoArgs<String> for String {
    fn into_args(self) -> String {
        self
    }
}

impl IntoArgs<()> for () {
    fn into_args(self) {}
}

/// A tuple is the arguments when each of its items is the argument at its place.
macro_rules! tuples {
    ($($taken:ident $given:ident $value:ident),+) => {
        impl<$($taken,)+ $($given: IntoArgument<$taken>),+> IntoArgs<($($taken,)+)>
            for ($($given,)+)
        {
            fn into_args(self) -> ($($taken,)+) {
                let ($($value,)+) = self;
                ($($value.into_argument(),)+)
            }
        }
    };
}

// serde reads tuples of up to 16 items.
tuples!(A1 B1 b1);
tuples!(A1 B1 b1, A2 B2 b2);
tuples!(A1 B1 b1, A2 B2 b2, A3 B3 b3);
tuples!(A1 B1 b1, A2 B2 b2, A3 B3 b3, A4 B4 b4);
tuples!(A1 B1 b1, A2 B2 b2, A3 B3 b3, A4 B4 b4, A5 B5 b5);
tuples!(A1 B1 b1, A2 B2 b2, A3 B3 b3, A4 B4 b4, A5 B5 b5, A6 B6 b6);
tuples!(A1 B1 b1, A2 B2 b2, A3 B3 b3, A4 B4 b4, A5 B5 b5, A6 B6 b6, A7 B7 b7);
tuples!(A1 B1 b1, A2 B2 b2, A3 B3 b3, A4 B4 b4, A5 B5 b5, A6 B6 b6, A7 B7 b7, A8 B8 b8);
tuples!(A1 B1 b1, A2 B2 b2, A3 B3 b3, A4 B4 b4, A5 B5 b5, A6 B6 b6, A7 B7 b7, A8 B8 b8, A9 B9 b9);
tuples!(
    A1 B1 b1, A2 B2 b2, A3 B3 b3, A4 B4 b4, A5 B5 b5, A6 B6 b6, A7 B7 b7, A8 B8 b8, A9 B9 b9,
    A10 B10 b10
);
tuples!(
    A1 B1 b1, A2 B2 b2, A3 B3 b3, A4 B4 b4, A5 B5 b5, A6 B6 b6, A7 B7 b7, A8 B8 b8, A9 B9 b9,
    A10 B10 b10, A11 B11 b11
);
tuples!(
    A1 B1 b1, A2 B2 b2, A3 B3 b3, A4 B4 b4, A5 B5 b5, A6 B6 b6, A7 B7 b7, A8 B8 b8, A9 B9 b9,
    A10 B10 b10, A11 B11 b11, A12 B12 b12
);
tuples!(
    A1 B1 b1, A2 B2 b2, A3 B3 b3, A4 B4 b4, A5 B5 b5, A6 B6 b6, A7 B7 b7, A8 B8 b8, A9 B9 b9,
    A10 B10 b10, A11 B11 b11, A12 B12 b12, A13 B13 b13
);
tuples!(
    A1 B1 b1, A2 B2 b2, A3 B3 b3, A4 B4 b4, A5 B5 b5, A6 B6 b6, A7 B7 b7, A8 B8 b8, A9 B9 b9,
    A10 B10 b10, A11 B11 b11, A12 B12 b12, A13 B13 b13, A14 B14 b14
);
tuples!(
    A1 B1 b1, A2 B2 b2, A3 B3 b3, A4 B4 b4, A5 B5 b5, A6 B6 b6, A7 B7 b7, A8 B8 b8, A9 B9 b9,
    A10 B10 b10, A11 B11 b11, A12 B12 b12, A13 B13 b13, A14 B14 b14, A15 B15 b15
);
tuples!(
    A1 B1 b1, A2 B2 b2, A3 B3 b3, A4 B4 b4, A5 B5 b5, A6 B6 b6, A7 B7 b7, A8 B8 b8, A9 B9 b9,
    A10 B10 b10, A11 B11 b11, A12 B12 b12, A13 B13 b13, A14 B14 b14, A15 B15 b15, A16 B16 b16
);

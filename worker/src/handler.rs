//! What a worker can run: the trait behind `#[task]`, and handlers made of a closure.
//! Running them, with limits and signals, is the matter of `slot.rs`.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::blocking::Blocking;
use crate::context::Context;
use crate::failure::TaskFailure;
use crate::payload::{Payload, encode_result};
use crate::shared::DataType;

/// The result of a run in JSON, or why it failed.
pub type Outcome = Result<Bytes, TaskFailure>;

/// Something a worker runs for the tasks of one name.
///
/// `#[task]` implements this; by hand it is needed only where the payload is not JSON.
///
/// ```
/// use celeriac_worker::{Context, Handler, Payload, Run, TaskFailure};
///
/// /// Counts the bytes of a raw payload.
/// struct Count;
///
/// impl Handler for Count {
///     fn name(&self) -> &str {
///         "count"
///     }
///
///     fn start(&self, _context: Context, payload: Payload<'_>) -> Result<Run, TaskFailure> {
///         let length = payload.bytes().len();
///         Ok(Run::future(async move { Ok(length.to_string().into()) }))
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no task that a worker can run",
    label = "no handler",
    note = "put `#[celeriac_worker::task]` above the function, or register a closure with `register_fn`"
)]
pub trait Handler: Send + Sync + 'static {
    /// The task name it is announced under.
    fn name(&self) -> &str;

    /// The queue that the task's definition names. A worker that is told no queues serves these.
    fn queue(&self) -> Option<String> {
        None
    }

    /// The types of the [`Data`](crate::Data) that it takes. A worker that was not given all of
    /// them does not start.
    fn data(&self) -> Vec<DataType> {
        Vec::new()
    }

    /// Reads the payload and makes the run, without beginning it.
    ///
    /// # Errors
    /// Whatever keeps the run from beginning; it is reported as the failure of this attempt.
    fn start(&self, context: Context, payload: Payload<'_>) -> Result<Run, TaskFailure>;
}

/// One run of a handler, ready to begin. As a future it runs to its outcome; middleware awaits it,
/// see [`Middleware::around`](crate::Middleware::around). Outside a worker a blocking run blocks
/// the thread that awaits it.
pub struct Run(pub(crate) RunKind);

pub(crate) enum RunKind {
    Future(Pin<Box<dyn Future<Output = Outcome> + Send>>),
    Blocking(Blocking),
}

impl Run {
    /// A run on the worker's runtime.
    pub fn future(future: impl Future<Output = Outcome> + Send + 'static) -> Self {
        Self(RunKind::Future(Box::pin(future)))
    }

    /// A run on a thread of the worker's own: it may block it. It cannot be dropped half-way, only
    /// told to stop.
    pub fn blocking(run: impl FnOnce() -> Outcome + Send + 'static) -> Self {
        Self(RunKind::Blocking(Box::new(run)))
    }
}

impl Future for Run {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<Outcome> {
        match &mut self.0 {
            RunKind::Future(future) => future.as_mut().poll(context),
            RunKind::Blocking(run) => {
                let over = Box::new(|| panic!("a run was awaited after its end"));
                Poll::Ready(std::mem::replace(run, over)())
            }
        }
    }
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            RunKind::Future(_) => "Run::future",
            RunKind::Blocking(_) => "Run::blocking",
        })
    }
}

/// A handler made of a name and a closure, for
/// [`WorkerBuilder::register_fn`](crate::WorkerBuilder::register_fn).
pub(crate) struct Closure<F, A> {
    name: String,
    function: F,
    arguments: PhantomData<fn(A)>,
}

impl<F, A> Closure<F, A> {
    pub(crate) fn new(name: String, function: F) -> Self {
        Self { name, function, arguments: PhantomData }
    }
}

impl<F, A, Fut, T, E> Handler for Closure<F, A>
where
    F: Fn(Context, A) -> Fut + Send + Sync + 'static,
    A: DeserializeOwned + 'static,
    Fut: Future<Output = Result<T, E>> + Send + 'static,
    T: Serialize,
    E: Into<TaskFailure>,
{
    fn name(&self) -> &str {
        &self.name
    }

    fn start(&self, context: Context, payload: Payload<'_>) -> Result<Run, TaskFailure> {
        let arguments = payload.arguments::<A>(&[])?;
        let future = (self.function)(context, arguments);
        Ok(Run::future(async move {
            match future.await {
                Ok(value) => encode_result(&value),
                Err(error) => Err(error.into()),
            }
        }))
    }
}

//! What a worker can run: the trait that `#[task]` implements, and handlers made of a closure.
//! `execution` runs them, with limits and signals.

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

/// The result of a run, in JSON, or its failure.
pub type Outcome = Result<Bytes, TaskFailure>;

/// Runs the tasks of one name.
///
/// `#[task]` implements this trait. Implement it by hand only for payloads that are not JSON.
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
    note = "put `#[celeriac_worker::task]` above the function, \
            or register a closure with `register_fn`"
)]
pub trait Handler: Send + Sync + 'static {
    /// The name of the tasks that this handler runs. The worker announces it to the broker.
    fn name(&self) -> &str;

    /// The queue of the task's definition. A worker whose builder names no queue serves the queues
    /// of its handlers.
    fn queue(&self) -> Option<String> {
        None
    }

    /// The types of the [`Data`](crate::Data) that the handler takes. A worker that lacks one of
    /// them does not start.
    fn data(&self) -> Vec<DataType> {
        Vec::new()
    }

    /// Reads the payload and makes the run. The run must not begin its work here.
    ///
    /// # Errors
    /// Why the run cannot begin. The worker reports it as the failure of this attempt.
    fn start(&self, context: Context, payload: Payload<'_>) -> Result<Run, TaskFailure>;
}

/// One run of a handler, which has not begun. A run is a future of its outcome: a middleware can
/// await it inside a run of its own, see [`Middleware::around`](crate::Middleware::around). Outside
/// a worker a blocking run blocks the thread that awaits it.
///
/// ```
/// use celeriac_worker::Run;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let run = Run::future(async { Ok("42".into()) });
/// assert_eq!(run.await, Ok("42".into()));
/// # }
/// ```
pub struct Run(pub(crate) RunKind);

pub(crate) enum RunKind {
    Future(Pin<Box<dyn Future<Output = Outcome> + Send>>),
    Blocking(Blocking),
}

impl Run {
    /// A run on the worker's runtime. It must not block the thread.
    pub fn future(future: impl Future<Output = Outcome> + Send + 'static) -> Self {
        Self(RunKind::Future(Box::pin(future)))
    }

    /// A run on a thread of the worker's own, which it may block. The worker cannot drop it after
    /// it has begun, and can only tell it to stop.
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

//! The values that the handlers of a worker share, such as a pool of connections, settings, or a
//! client of another service. The builder gets the values, and a handler takes a value by its type.
//! The values live as long as the worker. They are never part of a message.

use std::any::{Any, TypeId, type_name};
use std::collections::HashMap;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use crate::handler::Handler;

/// A parameter of a `#[task]` function that is no argument of the task: the value of type `T` that
/// was added with [`WorkerBuilder::data`](crate::WorkerBuilder::data).
///
/// The function takes `Data<T>` or `&Data<T>`. Producers do not see this parameter. A worker that
/// lacks the data of one of its tasks does not start; the error names the task and the type.
/// `#[task]` recognises the parameter by the name of its type: a type of your own that is also
/// called `Data<..>` cannot be an argument.
///
/// ```
/// use std::collections::HashMap;
/// use std::time::Duration;
///
/// use celeriac_worker::{Data, Worker, task};
///
/// struct Prices(HashMap<String, u32>);
///
/// #[task]
/// async fn price(prices: Data<Prices>, fruit: String) -> Option<u32> {
///     prices.0.get(&fruit).copied()
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let prices = Prices(HashMap::from([("apple".to_owned(), 3)]));
/// let client = Worker::builder("celeriac://unused").register(price).data(prices).eager();
/// let handle = client.delay(&price, ("apple".to_owned(),)).await.unwrap();
/// assert_eq!(handle.get(Duration::from_secs(5)).await.unwrap(), Some(3));
///
/// // The body alone, in a test:
/// let none = Data::new(Prices(HashMap::new()));
/// assert_eq!(price::run(none, "apple".to_owned()).await, None);
/// # }
/// ```
pub struct Data<T>(Arc<T>);

impl<T> Data<T> {
    /// A value for tests of a function's body. A worker makes its own.
    pub fn new(value: T) -> Self {
        Self(Arc::new(value))
    }

    /// The shared value. The caller may keep it longer than the worker.
    pub fn into_arc(self) -> Arc<T> {
        self.0
    }
}

impl<T> Clone for Data<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Deref for Data<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: fmt::Debug> fmt::Debug for Data<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A type whose [`Data`] a handler takes; see [`Handler::data`]. `#[task]` makes these by itself.
///
/// ```
/// use celeriac_worker::{Context, DataType, Handler, Payload, Run, TaskFailure};
///
/// struct Limit(usize);
///
/// /// Refuses long payloads.
/// struct Check;
///
/// impl Handler for Check {
///     fn name(&self) -> &str {
///         "check"
///     }
///
///     fn data(&self) -> Vec<DataType> {
///         vec![DataType::of::<Limit>()]
///     }
///
///     fn start(&self, context: Context, payload: Payload<'_>) -> Result<Run, TaskFailure> {
///         let limit = context.data::<Limit>().ok_or_else(|| TaskFailure::fatal("NoLimit", ""))?;
///         let fits = payload.bytes().len() <= limit.0;
///         Ok(Run::future(async move { Ok(fits.to_string().into()) }))
///     }
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataType {
    id: TypeId,
    name: &'static str,
}

impl DataType {
    /// The type `T`.
    pub fn of<T: Send + Sync + 'static>() -> Self {
        Self { id: TypeId::of::<T>(), name: type_name::<T>() }
    }

    /// The name of the type, for error messages.
    pub fn name(&self) -> &'static str {
        self.name
    }
}

/// The values of a worker, one of each type.
#[derive(Default)]
pub(crate) struct SharedValues(HashMap<TypeId, Arc<dyn Any + Send + Sync>>);

impl SharedValues {
    /// Adds a value. False when there was a value of the same type, which it replaces.
    pub(crate) fn insert<T: Send + Sync + 'static>(&mut self, value: T) -> bool {
        self.0.insert(TypeId::of::<T>(), Arc::new(value)).is_none()
    }

    pub(crate) fn of<T: Send + Sync + 'static>(&self) -> Option<Data<T>> {
        let value = self.0.get(&TypeId::of::<T>())?.clone();
        value.downcast().ok().map(Data)
    }

    /// Why this handler cannot run: the first of its types without a value.
    pub(crate) fn missing_for(&self, handler: &dyn Handler) -> Option<String> {
        let missing = handler.data().into_iter().find(|kind| !self.0.contains_key(&kind.id))?;
        let (task, kind) = (handler.name(), missing.name());
        Some(format!(
            "the task `{task}` takes `Data<{kind}>`; give the worker one with `WorkerBuilder::data`"
        ))
    }
}

impl fmt::Debug for SharedValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedValues of {} types", self.0.len())
    }
}

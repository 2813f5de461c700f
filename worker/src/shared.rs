//! What the handlers of a worker share: a pool of connections, settings, a client of another
//! service. The builder is given it, and a handler takes it by its type. It lives as long as the
//! worker, and no message has to do with it.

use std::any::{Any, TypeId, type_name};
use std::collections::HashMap;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use crate::handler::Handler;

/// A parameter of a `#[task]` function that is no argument of the task: the value of this type that
/// the worker was given with [`WorkerBuilder::data`](crate::WorkerBuilder::data).
///
/// The function takes `Data<T>` or `&Data<T>`. Producers know nothing of it. A worker with a task
/// whose data it was not given does not start, and says which is missing. `#[task]` knows the
/// parameter by its name: a type of your own that is also called `Data<..>` cannot be an argument.
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
    /// For tests of a function's body; a worker makes its own.
    pub fn new(value: T) -> Self {
        Self(Arc::new(value))
    }

    /// The shared value itself, to be kept for as long as it is needed.
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

/// A type of which a handler takes [`Data`].
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

    /// The type's name, for people.
    pub fn name(&self) -> &'static str {
        self.name
    }
}

/// The values that a worker was given, one of each type.
#[derive(Default)]
pub(crate) struct SharedValues(HashMap<TypeId, Arc<dyn Any + Send + Sync>>);

impl SharedValues {
    /// Adds a value; false when there is one of its type.
    pub(crate) fn insert<T: Send + Sync + 'static>(&mut self, value: T) -> bool {
        self.0.insert(TypeId::of::<T>(), Arc::new(value)).is_none()
    }

    pub(crate) fn of<T: Send + Sync + 'static>(&self) -> Option<Data<T>> {
        let value = self.0.get(&TypeId::of::<T>())?.clone();
        value.downcast().ok().map(Data)
    }

    /// What keeps this handler from running.
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

//! A typed call: `client.apply_async(&task, args).queue("songs").send()`. A call is a
//! [`Submission`] that also knows its client, the defaults of the task's definition and the type of
//! the task's output. The options are in `options`.

use std::marker::PhantomData;

use crate::client::Client;
use crate::error::Error;
use crate::handle::TaskHandle;
use crate::options::TaskOptions;
use crate::submission::Submission;
use crate::task::TaskDefinition;

/// A typed call that is not sent yet, made by [`Client::apply_async`]. Its options are the methods
/// of [`Submission`]. For an option that is not set, the definition's default counts.
///
/// ```no_run
/// use std::time::Duration;
///
/// use celeriac_client::{Client, Task};
///
/// const ADD: Task<(i64, i64), i64> = Task::new("sums.add");
///
/// # async fn example(client: Client) -> Result<(), celeriac_client::Error> {
/// let handle = client.apply_async(&ADD, (1, 2)).queue("sums").priority(9).send().await?;
/// assert_eq!(handle.get(Duration::from_secs(10)).await?, 3);
/// # Ok(())
/// # }
/// ```
pub type ApplyAsync<T> = Submission<TypedCall<T>>;

/// What an [`ApplyAsync`] knows beyond its [`Submission`]: its client, the definition's options,
/// and the type `T` of the task's output.
pub struct TypedCall<T> {
    client: Client,
    defaults: TaskOptions,
    output: PhantomData<fn() -> T>,
}

impl<T> Submission<TypedCall<T>> {
    pub(crate) fn call<D: TaskDefinition<Output = T>>(
        client: Client,
        task: &D,
        args: &D::Args,
    ) -> Self {
        let call = TypedCall { client, defaults: task.defaults(), output: PhantomData };
        let (mut submission, ()) = Submission::new(task.name()).with_call(call);
        submission.set_args(args);
        submission
    }

    /// Submits the task. When this returns `Ok`, the broker has stored the task.
    ///
    /// # Errors
    /// [`Error::Encode`] for arguments that are no tuple or that JSON cannot represent. All other
    /// errors are those of [`Client::submit`].
    pub async fn send(self) -> Result<TaskHandle<T>, Error> {
        self.check_encoding()?;
        let (submission, call) = self.with_call(());
        call.client.submit(submission.defaults(call.defaults)).await
    }

    /// The submission that [`ApplyAsync::send`] would send, for example for
    /// [`Client::submit_many`]. The definition's defaults are filled in.
    ///
    /// ```no_run
    /// # async fn example(client: celeriac_client::Client) -> Result<(), celeriac_client::Error> {
    /// const ADD: celeriac_client::Task<(i64, i64), i64> = celeriac_client::Task::new("sums.add");
    /// let sums = (0..100).map(|n| client.apply_async(&ADD, (n, n)).into_submission());
    /// client.submit_many(sums).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn into_submission(self) -> Submission {
        let (submission, call) = self.with_call(());
        submission.defaults(call.defaults)
    }
}

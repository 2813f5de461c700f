//! Requests of connected clients, and the functions that carry them out. Every request of every
//! group has its arm in this file; a request without an arm does not compile.

use celeriac_record::Actor;

use crate::Machine;
use crate::cancel::Cancelling;
use crate::command::{
    Answer, Ask, Code, Effect, Mail, Observe, Operate, Outlines, Produce, Refusal, Route,
    SubmitOutcome, Work, WrongReport,
};
use crate::dead::Fate;
use crate::keys::SessionKey;
use crate::listing::PageAsked;
use crate::observe::WaitFor;
use crate::step::{Asker, Step};

impl Machine {
    /// Takes a request of a connection. Every request is a sign of life of its client.
    pub(crate) fn request(&mut self, step: &mut Step<'_>, asker: Asker, ask: Ask) {
        let Some(session) = self.sessions.of(asker.connection) else {
            // The session of the connection has ended, and the client was informed: the connection
            // is about to close.
            return;
        };
        self.sessions.touch(session, step.now);
        if let Some(ask) = self.ask_for_now(asker, ask) {
            self.carry_out(step, asker, session, ask);
        }
    }

    /// Carries out a request, or begins a long one, on behalf of its client.
    pub(crate) fn carry_out(
        &mut self,
        step: &mut Step<'_>,
        asker: Asker,
        session: SessionKey,
        ask: Ask,
    ) {
        let actor = match &ask {
            Ask::Work(_) | Ask::Goodbye => Actor::Worker,
            _ => Actor::Client(self.sessions.session(session).instance.clone()),
        };
        let step = &mut step.on_behalf_of(actor);
        step.scope = self.sessions.session(session).scope.clone();
        match ask {
            Ask::Refuse(refusal) => step.answer(asker, Answer::Refused(refusal)),
            Ask::Goodbye => self.goodbye(step, asker),
            Ask::Heartbeat { memory_bytes } => {
                self.sessions.session_mut(session).memory_bytes = memory_bytes;
                let wall = step.now.wall;
                step.answer(asker, Answer::Heartbeat { wall });
            }
            Ask::Produce(produce) => self.produce(step, asker, produce),
            Ask::Observe(observe) => self.observe(step, asker, session, observe),
            Ask::Work(work) => self.work(step, asker, session, work),
            Ask::Operate(operate) => self.operate(step, asker, operate),
            Ask::Mail(mail) => self.mail(step, asker, mail),
            Ask::Route(route) => self.change_routes(step, asker, route),
        }
    }

    fn produce(&mut self, step: &mut Step<'_>, asker: Asker, produce: Produce) {
        match produce {
            Produce::Submit(tasks) => {
                let submissions = tasks.iter().flatten();
                self.tasks.look_for(submissions.map(|submission| &*submission.spec.id));
                let mut outcomes = Vec::with_capacity(tasks.len());
                for task in tasks {
                    outcomes.push(match task {
                        Ok(submission) => self.submit(step, submission),
                        Err(refusal) => SubmitOutcome::Refused(refusal),
                    });
                }
                step.answer(asker, Answer::Submitted(outcomes));
            }
            Produce::Cancel { target, mode, grace_ms, reason } => {
                self.cancel(step, asker, target, Cancelling::new(mode, grace_ms, reason));
            }
            Produce::Forget(ids) => {
                let mut outcomes = Vec::with_capacity(ids.len());
                for id in &ids {
                    outcomes.push(self.forget_ended(step, id));
                }
                step.answer(asker, Answer::Forgot(outcomes));
            }
            Produce::Chord { group, ask } => self.gather(step, asker, &group, ask),
            Produce::PutOutcome(outcomes) => self.put_outcomes(step, asker, outcomes),
        }
    }

    fn observe(
        &mut self,
        step: &mut Step<'_>,
        asker: Asker,
        session: SessionKey,
        observe: Observe,
    ) {
        match observe {
            Observe::Get { ids, with_results, with_payloads } => {
                let mut tasks = self.outlines(step, &ids, with_results);
                for task in &mut tasks {
                    task.with_payload = with_payloads;
                }
                step.show(asker, Outlines::Got { tasks });
            }
            Observe::Wait { ids, any, until, with_results, timeout_ms } => {
                let wait = WaitFor { ids, any, until, with_results, timeout_ms };
                self.wait(step, asker, session, wait);
            }
            Observe::Unwait(waits) => {
                for wait in waits {
                    self.unwait(step, session, wait);
                }
                step.answer(asker, Answer::Done);
            }
            Observe::Watch { ids, with_results } => {
                self.watch(step, asker, session, ids, with_results);
            }
            Observe::Unwatch { watch } => {
                let answer = match self.unwatch(session, watch) {
                    true => Answer::Done,
                    false => {
                        Answer::Refused(Refusal::new(Code::NotFound, "there is no such watch"))
                    }
                };
                step.answer(asker, answer);
            }
        }
    }

    fn work(&mut self, step: &mut Step<'_>, asker: Asker, session: SessionKey, work: Work) {
        match work {
            Work::Credit(credit) => {
                self.set_credit(session, credit);
                step.answer(asker, Answer::Done);
            }
            Work::Report(reports) => {
                self.tasks.look_ahead(reports.iter().flatten().map(|report| report.lease));
                let mut outcomes = Vec::with_capacity(reports.len());
                for report in reports {
                    outcomes.push(match report {
                        Ok(report) => self.report(step, session, report),
                        Err(WrongReport(id)) => {
                            let slot = id.and_then(|id| self.find_seen(step.scope.as_deref(), &id));
                            let state = slot.map(|slot| self.tasks.task(slot).state);
                            Err((Code::InvalidArgument, state))
                        }
                    });
                }
                step.answer(asker, Answer::Reported(outcomes));
            }
            Work::Serve(change) => {
                let answer = match self.serve(session, change) {
                    Ok(()) => Answer::Done,
                    Err(refusal) => Answer::Refused(refusal),
                };
                step.answer(asker, answer);
            }
            Work::Take { queue, count } => self.take_tasks(step, asker, session, &queue, count),
        }
    }

    fn operate(&mut self, step: &mut Step<'_>, asker: Asker, operate: Operate) {
        match operate {
            Operate::ListQueues { names, after } => self.list_queues(step, asker, names, after),
            Operate::ConfigureQueue(record) => self.configure_queue(step, asker, record),
            Operate::DeclareQueue { record, passive, may_configure } => match passive {
                true => self.find_queue(step, asker, &record.name),
                false => self.declare_queue(step, asker, record, may_configure),
            },
            Operate::PauseQueues { queues, paused } => {
                self.begin_pause(step, asker, queues, paused)
            }
            Operate::Drain(drain) => self.begin_drain(step, asker, drain),
            Operate::LogFilter(filter) => {
                step.answer(asker, Answer::LogFilter(filter.unwrap_or_default()));
            }
            Operate::PurgeQueue { queue, delete } => self.begin_purge(step, asker, queue, delete),
            Operate::ReplayDead(which) => self.settle_dead(step, asker, which, Fate::Replay),
            Operate::DiscardDead(which) => self.settle_dead(step, asker, which, Fate::Discard),
            Operate::ListTasks {
                filter,
                limit,
                newest_first,
                just_ended,
                after,
                with_tracebacks,
            } => {
                let asked =
                    PageAsked { filter, limit, newest_first, just_ended, after, with_tracebacks };
                self.list_tasks(step, asker, asked);
            }
            Operate::ListWorkers { after, with_tracebacks } => {
                self.list_workers(step, asker, after, with_tracebacks);
            }
            Operate::OrderWorkers { instances, order } => {
                let count = self.order_workers(step, &instances, order);
                step.answer(asker, Answer::Count(count));
            }
            Operate::Backup(folder) => {
                let tasks = self.tasks() as u64;
                let Asker { connection, request } = asker;
                step.push(Effect::Backup { connection, request, folder, tasks });
            }
            Operate::Info => self.info(step, asker),
            Operate::Stats { names, after } => self.stats(step, asker, names, after),
        }
    }

    fn mail(&mut self, step: &mut Step<'_>, asker: Asker, mail: Mail) {
        match mail {
            Mail::DeclareMailbox(name, options) => {
                self.declare_mailbox(step, asker, name, options);
            }
            Mail::FindMailbox(name) => self.find_mailbox(step, asker, &name),
            Mail::DeleteMailbox { mailbox, if_unused, if_empty } => {
                self.delete_mailbox(step, asker, &mailbox, if_unused, if_empty);
            }
            Mail::PurgeMailbox(name) => self.purge_mailbox(step, asker, &name),
            Mail::Consume(name) => self.consume(step, asker, &name),
            Mail::Unconsume(consumer) => self.unconsume(step, asker, consumer),
            Mail::Fetch(name) => self.fetch_mail(step, asker, &name),
            Mail::Ack(tags) => self.acknowledge_mail(step, asker, &tags),
            Mail::PutBack(tags) => self.put_back_mail(step, asker, &tags),
            Mail::Publish(publish) => self.publish_mail(step, asker, publish),
            Mail::ListMailboxes { after } => self.list_mailboxes(step, asker, after.as_ref()),
        }
    }

    fn change_routes(&mut self, step: &mut Step<'_>, asker: Asker, route: Route) {
        match route {
            Route::DeclareExchange(record) => self.declare_exchange(step, asker, record),
            Route::FindExchange(name) => self.find_exchange(step, asker, &name),
            Route::DeleteExchange { exchange, if_unused } => {
                self.delete_exchange(step, asker, &exchange, if_unused);
            }
            Route::Bind(binding) => self.bind(step, asker, binding),
            Route::Unbind(binding) => self.unbind(step, asker, binding),
            Route::ListBindings { after } => self.list_bindings(step, asker, after.as_ref()),
        }
    }
}

//! Attempts that fail, and the time of the next attempt.

use expect_test::expect;

use super::check;

#[test]
fn a_failed_task_is_retried_with_growing_delays_and_then_dead() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
        submit a attempts=3
            c: Created { state: Queued }
            w: deliver a lease 1 attempt 1 delivery 1
        fail a
            w: Ok(Retry)
        get a
            c: a Retry for Time g1 v4
        after 1s
            w: deliver a lease 2 attempt 2 delivery 1 again
        fail a
            w: Ok(Retry)
        after 1999ms
        after 1ms
            w: deliver a lease 3 attempt 3 delivery 1 report start again
        fail a
            w: Ok(Failure)
        get a
            c: a Failure g1 v12
        queues
            c: default: ready 0 scheduled 0 leased 0 dead 1
    "#]]);
}

#[test]
fn a_handler_may_ask_for_another_attempt_at_its_own_time() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
        submit a attempts=2
            c: Created { state: Queued }
            w: deliver a lease 1 attempt 1 delivery 1
        again a in=5s
            w: Ok(Retry)
        after 5s
            w: deliver a lease 2 attempt 2 delivery 1 report start again
        again a in=5s
            w: Ok(Failure)
        get a
            c: a Failure g1 v8
    "#]]);
}

#[test]
fn a_task_has_four_attempts_unless_it_says_otherwise() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
        submit a backoff=fixed
            c: Created { state: Queued }
            w: deliver a lease 1 attempt 1 delivery 1
        fail a
            w: Ok(Retry)
        after 1s beating=w
            w: deliver a lease 2 attempt 2 delivery 1 again
        fail a
            w: Ok(Retry)
        after 1s beating=w
            w: deliver a lease 3 attempt 3 delivery 1 again
        fail a
            w: Ok(Retry)
        after 1s beating=w
            w: deliver a lease 4 attempt 4 delivery 1 report start again
        fail a
            w: Ok(Failure)
        get a
            c: a Failure g1 v16
    "#]]);
}

#[test]
fn delays_are_fixed_exponential_or_polynomial_and_have_a_cap() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 4
            w: done
        submit fixed backoff=fixed delay=1s
            c: Created { state: Queued }
            w: deliver fixed lease 1 attempt 1 delivery 1
        submit grown factor=3 delay=1s
            c: Created { state: Queued }
            w: deliver grown lease 2 attempt 1 delivery 1
        submit power backoff=polynomial factor=2 delay=1s
            c: Created { state: Queued }
            w: deliver power lease 3 attempt 1 delivery 1
        submit capped factor=3 delay=1s cap=2s
            c: Created { state: Queued }
            w: deliver capped lease 4 attempt 1 delivery 1
        fail fixed
            w: Ok(Retry)
        fail grown
            w: Ok(Retry)
        fail power
            w: Ok(Retry)
        fail capped
            w: Ok(Retry)
        after 999ms
        after 1ms
            w: deliver fixed lease 5 attempt 2 delivery 1 again
            w: deliver grown lease 6 attempt 2 delivery 1 again
            w: deliver power lease 7 attempt 2 delivery 1 again
            w: deliver capped lease 8 attempt 2 delivery 1 again
        fail fixed
            w: Ok(Retry)
        fail grown
            w: Ok(Retry)
        fail power
            w: Ok(Retry)
        fail capped
            w: Ok(Retry)
        after 999ms beating=w
        after 1ms beating=w
            w: deliver fixed lease 9 attempt 3 delivery 1 again
        after 999ms beating=w
        after 1ms beating=w
            w: deliver capped lease 10 attempt 3 delivery 1 again
        after 999ms beating=w
        after 1ms beating=w
            w: deliver grown lease 11 attempt 3 delivery 1 again
        after 999ms beating=w
        after 1ms beating=w
            w: deliver power lease 12 attempt 3 delivery 1 again
    "#]]);
}

#[test]
fn full_jitter_spreads_over_the_whole_delay_and_equal_jitter_over_its_second_half() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 6
            w: done
        submit full1..full3 jitter=full delay=10s
            c: Created { state: Queued }, Created { state: Queued }, Created { state: Queued }
            w: deliver full1 lease 1 attempt 1 delivery 1
            w: deliver full2 lease 2 attempt 1 delivery 1
            w: deliver full3 lease 3 attempt 1 delivery 1
        submit half1..half3 jitter=equal delay=10s
            c: Created { state: Queued }, Created { state: Queued }, Created { state: Queued }
            w: deliver half1 lease 4 attempt 1 delivery 1
            w: deliver half2 lease 5 attempt 1 delivery 1
            w: deliver half3 lease 6 attempt 1 delivery 1
        fail full1
            w: Ok(Retry)
        fail full2
            w: Ok(Retry)
        fail full3
            w: Ok(Retry)
        fail half1
            w: Ok(Retry)
        fail half2
            w: Ok(Retry)
        fail half3
            w: Ok(Retry)
        after 5s beating=w
            w: deliver full3 lease 7 attempt 2 delivery 1 again
            w: deliver full1 lease 8 attempt 2 delivery 1 again
        after 5s beating=w
            w: deliver half2 lease 9 attempt 2 delivery 1 again
            w: deliver half1 lease 10 attempt 2 delivery 1 again
            w: deliver full2 lease 11 attempt 2 delivery 1 again
            w: deliver half3 lease 12 attempt 2 delivery 1 again
    "#]]);
}

#[test]
fn a_retry_is_due_over_a_restart_too() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
        submit a attempts=2 delay=10s
            c: Created { state: Queued }
            w: deliver a lease 1 attempt 1 delivery 1
        fail a
            w: Ok(Retry)
        after 5s beating=w
        restart
        connect c
            c: welcome new leases []
        get a
            c: a Retry for Time g1 v4
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
        after 5s
            w: deliver a lease 2 attempt 2 delivery 1 report start again
        fail a
            w: Ok(Failure)
    "#]]);
}

#[test]
fn a_task_with_early_ack_that_has_begun_ends_however_its_worker_lets_go_of_it() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        submit a b d e f early_ack=yes attempts=4
            c: Created { state: Queued }, Created { state: Queued }, Created { state: Queued }, Created { state: Queued }, Created { state: Queued }
        credit w 5
            w: done
            w: deliver a lease 1 attempt 1 delivery 1 report start
            w: deliver b lease 2 attempt 1 delivery 1 report start
            w: deliver d lease 3 attempt 1 delivery 1 report start
            w: deliver e lease 4 attempt 1 delivery 1 report start
            w: deliver f lease 5 attempt 1 delivery 1 report start
        start a
            w: Ok(Started)
        release a
            w: Ok(Failure)
        start b
            w: Ok(Started)
        fail b
            w: Ok(Failure)
        start d
            w: Ok(Started)
        again d in=5s
            w: Ok(Failure)
        fail e
            w: Ok(Failure)
        release f
            w: Ok(Queued)
            w: deliver f lease 6 attempt 1 delivery 1 report start again
        start f
            w: Ok(Started)
        release f not_begun
            w: Ok(Queued)
            w: deliver f lease 7 attempt 1 delivery 1 report start again
        get a b d e f
            c: a Failure g1 v4, b Failure g1 v4, d Failure g1 v4, e Failure g1 v4, f Leased g1 v7
    "#]]);
}

//! The figures of the broker itself.

use expect_test::expect;

use super::check;

#[test]
fn the_broker_counts_what_it_holds() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        info
            c: up 0ms since 1000000: connections 1 workers 0 lost 0 queues 1 mailboxes 0; ready 0 scheduled 0 leased 0 dead 0 ended 0
        connect w runs=job
            w: welcome new leases []
        connect v runs=job queues=other
            v: welcome new leases []
        credit w 1
            w: done
        submit a1..a3
            c: Created { state: Queued }, Created { state: Queued }, Created { state: Queued }
            w: deliver a1 lease 1 attempt 1 delivery 1
        submit b in=1h queue=night
            c: Created { state: Scheduled }
        submit e queue=other expires=5s
            c: Created { state: Queued }
        info
            c: up 0ms since 1000000: connections 3 workers 2 lost 0 queues 3 mailboxes 0; ready 3 scheduled 1 leased 1 dead 0 ended 0
        start a1
            w: Ok(Started)
        after 2s
        reject a1
            w: Ok(Failure)
            w: deliver a2 lease 2 attempt 1 delivery 1
        complete a2
            w: Ok(Success)
            w: deliver a3 lease 3 attempt 1 delivery 1
        after 10s
        lose v
            v: closed
        info
            c: up 12000ms since 1000000: connections 2 workers 1 lost 1 queues 3 mailboxes 0; ready 0 scheduled 1 leased 1 dead 1 ended 2
    "#]]);
}

#[test]
fn the_broker_says_since_when_it_serves_and_a_clock_that_is_set_changes_no_span() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        after 10s
        info
            c: up 10000ms since 1000000: connections 1 workers 0 lost 0 queues 1 mailboxes 0; ready 0 scheduled 0 leased 0 dead 0 ended 0
        restart
        connect c
            c: welcome new leases []
        after 5s
        info
            c: up 5000ms since 1010000: connections 1 workers 0 lost 0 queues 1 mailboxes 0; ready 0 scheduled 0 leased 0 dead 0 ended 0
        clock +1h
        info
            c: up 5000ms since 4610000: connections 1 workers 0 lost 0 queues 1 mailboxes 0; ready 0 scheduled 0 leased 0 dead 0 ended 0
    "#]]);
}

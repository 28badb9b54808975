//! Budgets hold, whoever spends at the same time, and begin anew with their day.

use proptest::prelude::*;

use super::*;

const WORK: ProfileId = ProfileId(1);
const TODAY: Day = Day { begins_ms: 1000, ends_ms: 2000 };

fn budget(per_day: u64) -> Budget {
    Budget { per_day: Some(per_day), per_session: None }
}

fn spending() -> Spending {
    let mut spending = Spending::default();
    assert!(!spending.look_at_calendar(1500), "no day is known yet");
    spending.begin_day(TODAY);
    assert!(spending.look_at_calendar(1500));
    spending
}

fn spend(spending: &mut Spending, session: Option<u64>, budget: Budget, cost: u64) -> Vec<Reached> {
    let reservation = spending.reserve(WORK, session, budget, 1).expect("there is room");
    spending.settle(&reservation, cost)
}

#[test]
fn the_last_cent_is_spent_and_no_more() {
    let mut spending = spending();
    assert_eq!(spend(&mut spending, None, budget(100), 99), []);
    assert_eq!(spending.reached(WORK, None, &budget(100)), None);
    let reached = Reached { period: Period::Day, limit: 100, spent: 100 };
    assert_eq!(spend(&mut spending, None, budget(100), 1), [reached]);
    assert_eq!(spending.reserve(WORK, None, budget(100), 1), Err(reached));
    assert_eq!(spending.reached(ProfileId(2), None, &budget(100)), None, "another profile has another purse");
}

#[test]
fn a_budget_of_nothing_lets_nobody_in() {
    assert!(spending().reserve(WORK, None, budget(0), 1).is_err());
}

#[test]
fn what_is_under_way_counts_until_it_is_settled() {
    let mut spending = spending();
    let first = spending.reserve(WORK, None, budget(100), 100).expect("there is room");
    assert_eq!(spending.reserve(WORK, None, budget(100), 1), Err(Reached { period: Period::Day, limit: 100, spent: 100 }));
    assert_eq!(spending.settle(&first, 0), [], "it failed and cost nothing");
    assert!(spending.reserve(WORK, None, budget(100), 1).is_ok());
}

#[test]
fn the_news_that_a_limit_is_reached_comes_once() {
    let mut spending = spending();
    let [one, two] = [spending.reserve(WORK, None, budget(100), 10), spending.reserve(WORK, None, budget(100), 10)].map(Result::unwrap);
    assert_eq!(spending.settle(&one, 120).len(), 1);
    assert_eq!(spending.settle(&two, 120), []);
    assert_eq!(spending.today(WORK), 240);
}

#[test]
fn a_session_has_a_limit_of_its_own() {
    let mut spending = spending();
    let both = Budget { per_day: Some(1000), per_session: Some(50) };
    assert_eq!(spend(&mut spending, Some(7), both, 60), [Reached { period: Period::Session, limit: 50, spent: 60 }]);
    assert_eq!(spending.reached(WORK, Some(7), &both).map(|reached| reached.period), Some(Period::Session));
    assert_eq!(spending.reached(WORK, Some(8), &both), None);
    assert_eq!(spending.reached(WORK, None, &both), None);
}

#[test]
fn a_new_day_begins_with_nothing_spent() {
    let mut spending = spending();
    let both = Budget { per_day: Some(100), per_session: Some(100) };
    let under_way = spending.reserve(WORK, None, both, 5).expect("there is room");
    spend(&mut spending, Some(7), both, 100);
    assert!(spending.look_at_calendar(1999));
    assert!(!spending.look_at_calendar(2000), "the day's last moment is over");
    spending.begin_day(Day { begins_ms: 2000, ends_ms: 3000 });
    assert_eq!(spending.today(WORK), 0);
    assert_eq!(spending.reached(WORK, None, &both), None);
    assert_eq!(spending.reached(WORK, Some(7), &both).map(|reached| reached.period), Some(Period::Session), "the session goes on");
    spending.settle(&under_way, 30);
    assert_eq!(spending.today(WORK), 30, "what ends today is paid today");
    spending.begin_day(Day { begins_ms: 2000, ends_ms: 3000 });
    assert_eq!(spending.today(WORK), 30, "the same day is no new one");
}

#[test]
fn sessions_are_bounded_and_the_oldest_goes_first() {
    let mut spending = spending();
    let each = Budget { per_day: None, per_session: Some(10) };
    for session in 0..MOST_SESSIONS as u64 {
        spending.look_at_calendar(1000 + session);
        spend(&mut spending, Some(session), each, 10);
    }
    spend(&mut spending, Some(99_999), each, 10);
    assert_eq!(spending.sessions.len(), MOST_SESSIONS);
    assert_eq!(spending.reached(WORK, Some(0), &each), None);
    assert!(spending.reached(WORK, Some(1), &each).is_some());
}

proptest! {
    /// However many requests run at once, what is spent stays below the limit and what was reserved by those in flight, as long as nobody
    /// costs more than was set aside for it.
    #[test]
    fn parallel_requests_overshoot_by_no_more_than_what_is_in_flight(
        limit in 1_u64..1000,
        steps in proptest::collection::vec((any::<bool>(), 1_u64..200, 0_u64..=100, any::<prop::sample::Index>()), 1..200),
    ) {
        let mut spending = spending();
        let mut under_way: Vec<Reservation> = Vec::new();
        let mut largest = 0;
        for (begins, amount, percent, which) in steps {
            if begins {
                let in_flight: u64 = under_way.iter().map(|reservation| reservation.amount).sum();
                let room = spending.today(WORK) + in_flight < limit;
                match spending.reserve(WORK, Some(1), budget(limit), amount) {
                    Ok(reservation) => {
                        prop_assert!(room);
                        largest = largest.max(amount);
                        under_way.push(reservation);
                    }
                    Err(reached) => {
                        prop_assert!(!room, "nobody is refused while money is left");
                        prop_assert_eq!(reached.limit, limit);
                    }
                }
            } else if !under_way.is_empty() {
                let reservation = under_way.swap_remove(which.index(under_way.len()));
                spending.settle(&reservation, reservation.amount * percent / 100);
            }
            let in_flight: u64 = under_way.iter().map(|reservation| reservation.amount).sum();
            prop_assert!(spending.today(WORK) + in_flight < limit + largest.max(1), "beyond the limit by less than one request's reserve");
        }
        for reservation in under_way {
            spending.settle(&reservation, reservation.amount);
        }
        prop_assert!(spending.today(WORK) < limit + largest.max(1));
    }
}

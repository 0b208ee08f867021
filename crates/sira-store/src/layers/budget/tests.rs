use super::*;
use crate::env::SimEnv;

fn budget(ratio: f64, per_second: f64, burst: u32) -> (Arc<SimEnv>, Budget) {
    let env = Arc::new(SimEnv::new(1, 0));
    let budget = Budget::new(BudgetOptions { ratio, per_second, burst }, env.clone());
    (env, budget)
}

fn drain(budget: &Budget) -> u64 {
    (0..10_000).take_while(|_| budget.withdraw()).count() as u64
}

#[test]
fn extra_requests_stay_a_share_of_the_load() {
    let (_, budget) = budget(0.1, 0.0, 10);
    assert_eq!(drain(&budget), 10);
    let mut extra = 0;
    for _ in 0..1000 {
        budget.deposit();
        extra += u64::from(budget.withdraw());
    }
    assert_eq!(extra, 100);
    // What is saved up is bounded.
    (0..100_000).for_each(|_| budget.deposit());
    assert_eq!(budget.available(), 10);
    assert_eq!(drain(&budget), 10);
}

#[test]
fn a_quiet_client_gets_some_with_time() {
    let (env, budget) = budget(0.0, 2.0, 5);
    assert_eq!(drain(&budget), 5);
    env.advance_ms(499);
    assert!(!budget.withdraw());
    env.advance_ms(1);
    assert!(budget.withdraw());
    env.advance_ms(3_600_000);
    assert_eq!(drain(&budget), 5);
}

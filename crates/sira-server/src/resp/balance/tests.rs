use super::*;

/// Feeds windows in which the loop never waits and every client has something ready.
struct Loop {
    balance: Balance,
    now: Duration,
    counted: Counted,
}

impl Loop {
    fn new() -> Self {
        let counted = Counted { clients: 10, accepted: 10, commands: 0 };
        Self { balance: Balance::default(), now: Duration::ZERO, counted }
    }

    fn window(&mut self, commands: u64) -> Advice {
        self.now += WINDOW;
        self.counted.commands += commands;
        let counted = self.counted;
        self.balance.tick(self.now, counted.clients, || counted)
    }

    fn until_advice(&mut self, commands: u64) -> (u32, Advice) {
        for windows in 1..10_000 {
            match self.window(commands) {
                Advice::Keep => {}
                advice => return (windows, advice),
            }
        }
        (0, Advice::Keep)
    }
}

#[test]
fn a_saturated_loop_shares_and_keeps_to_it_when_more_gets_done() {
    let mut watched = Loop::new();
    assert_eq!(watched.until_advice(1000), (WINDOWS, Advice::Share));
    // One window to settle, then those that count.
    for _ in 0..=WINDOWS {
        assert_eq!(watched.window(1200), Advice::Keep);
    }
    assert_eq!(watched.until_advice(1200), (WINDOWS, Advice::Share), "it may need a third");
}

#[test]
fn clients_come_back_when_sharing_does_not_help_and_the_rest_grows() {
    let mut watched = Loop::new();
    let mut rests = Vec::new();
    for _ in 0..3 {
        let (waited, advice) = watched.until_advice(1000);
        assert_eq!(advice, Advice::Share);
        rests.push(waited);
        assert_eq!(watched.until_advice(1050), (WINDOWS + 1, Advice::TakeBack));
    }
    assert!(rests[0] < rests[1] && rests[1] < rests[2], "{rests:?}");
}

#[test]
fn new_clients_end_the_rest() {
    let mut watched = Loop::new();
    watched.until_advice(1000);
    assert_eq!(watched.until_advice(900).1, Advice::TakeBack);
    watched.counted.accepted += 5;
    assert_eq!(watched.until_advice(1000), (WINDOWS + 1, Advice::Share));
}

#[test]
fn a_loop_that_waits_keeps_its_clients() {
    let mut watched = Loop::new();
    for _ in 0..100 {
        watched.balance.waited(WINDOW / 2);
        assert_eq!(watched.window(1000), Advice::Keep);
    }
    let mut few = Loop::new();
    few.counted.clients = CLIENTS_MIN - 1;
    assert_eq!(few.until_advice(1000).1, Advice::Keep);
}

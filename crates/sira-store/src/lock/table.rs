//! Who holds and who waits: the rules, without a clock or a runtime.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use tokio::sync::oneshot;

use super::fence::Fence;
use super::{LockFigures, LockMode, LockName, LockOwner, LockStatus};
use crate::error::{Result, StorageError};

/// Everything that is held and waited for.
#[derive(Debug, Default)]
pub(super) struct Table {
    locks: BTreeMap<LockName, Lock>,
    /// Names that an owner holds, by its age.
    held: HashMap<u64, BTreeSet<LockName>>,
    /// Names that an owner waits for, by its age.
    waits: HashMap<u64, Vec<LockName>>,
    waiters: u64,
    granted: u64,
    deadlocks: u64,
    expired: u64,
}

/// One lock. It is in the table while somebody holds it or waits for it.
#[derive(Debug, Default)]
struct Lock {
    grants: Vec<Grant>,
    queue: VecDeque<Waiter>,
}

#[derive(Debug)]
struct Grant {
    owner: LockOwner,
    mode: LockMode,
    token: u64,
    since: Duration,
    /// When its lease ends, on the monotonic clock.
    until: Option<Duration>,
}

#[derive(Debug)]
struct Waiter {
    id: u64,
    request: Request,
    since: Duration,
    answer: oneshot::Sender<Result<u64>>,
}

/// What is asked for.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) owner: LockOwner,
    pub(super) mode: LockMode,
    pub(super) lease: Option<Duration>,
    pub(super) waits: bool,
}

/// What came of it.
pub(super) enum Requested {
    Granted(u64),
    /// Its turn comes; the number cancels it.
    Waits(u64, oneshot::Receiver<Result<u64>>),
    /// Others hold it, and it was not to wait.
    Refused(Vec<String>),
}

impl Lock {
    fn grant_of(&mut self, owner: &LockOwner) -> Option<&mut Grant> {
        self.grants.iter_mut().find(|grant| grant.owner.age == owner.age)
    }

    /// Whether those who hold it let the request in.
    fn admits(&self, request: &Request) -> bool {
        self.grants
            .iter()
            .all(|grant| grant.owner.age == request.owner.age || !grant.mode.excludes(request.mode))
    }

    /// Ages of those whom the waiter at this turn waits for, but for those who are waited for by one
    /// of these.
    fn blockers(&self, at: usize) -> Vec<u64> {
        let Some(waiter) = self.queue.get(at) else { return Vec::new() };
        let (age, mode) = (waiter.request.owner.age, waiter.request.mode);
        let mut blockers = Vec::new();
        for before in self.queue.iter().take(at).rev().map(|waiter| &waiter.request) {
            if before.mode.excludes(mode) && before.owner.age != age {
                blockers.push(before.owner.age);
            }
            if before.mode == LockMode::Exclusive {
                return blockers;
            }
        }
        let holders = self.grants.iter().filter(|grant| grant.mode.excludes(mode));
        blockers.extend(holders.map(|grant| grant.owner.age).filter(|other| *other != age));
        blockers
    }
}

impl Table {
    pub(super) fn request(
        &mut self,
        name: &LockName,
        request: Request,
        now: Duration,
        fence: &Fence,
    ) -> Requested {
        self.expire(name, now, fence);
        let lock = self.locks.entry(name.clone()).or_default();
        let held = lock.grant_of(&request.owner).map(|grant| {
            let enough = grant.mode == LockMode::Exclusive || request.mode == LockMode::Shared;
            if enough {
                grant.until = request.lease.map(|lease| now + lease);
            }
            (enough, grant.token)
        });
        if let Some((true, token)) = held {
            return Requested::Granted(token);
        }
        let upgrades = held.is_some();
        if lock.admits(&request) && (upgrades || lock.queue.is_empty()) {
            return Requested::Granted(self.grant(name, request, now, fence));
        }
        if !request.waits {
            let holders = self.holders(name);
            return Requested::Refused(holders);
        }
        self.waiters += 1;
        let (id, age) = (self.waiters, request.owner.age);
        let (answer, receiver) = oneshot::channel();
        let waiter = Waiter { id, request, since: now, answer };
        match upgrades {
            true => lock.queue.push_front(waiter),
            false => lock.queue.push_back(waiter),
        }
        self.waits.entry(age).or_default().push(name.clone());
        while let Some(circle) = self.circle(age) {
            self.deadlocks += 1;
            let youngest = circle.into_iter().max().unwrap_or(age);
            self.give_way(youngest, now, fence);
        }
        Requested::Waits(id, receiver)
    }

    /// Gives the lock to who asks for it, in the place of what it holds of it.
    fn grant(&mut self, name: &LockName, request: Request, now: Duration, fence: &Fence) -> u64 {
        let Request { owner, mode, lease, .. } = request;
        let token = fence.next();
        self.granted += 1;
        self.held.entry(owner.age).or_default().insert(name.clone());
        let lock = self.locks.entry(name.clone()).or_default();
        lock.grants.retain(|grant| grant.owner.age != owner.age);
        let until = lease.map(|lease| now + lease);
        lock.grants.push(Grant { owner, mode, token, since: now, until });
        token
    }

    /// Gives the lock to those whose turn it is.
    fn promote(&mut self, name: &LockName, now: Duration, fence: &Fence) {
        while let Some(lock) = self.locks.get_mut(name)
            && lock.queue.front().is_some_and(|waiter| lock.admits(&waiter.request))
            && let Some(Waiter { request, answer, .. }) = lock.queue.pop_front()
        {
            let owner = request.owner.clone();
            self.forget_wait(&owner, name);
            let token = self.grant(name, request, now, fence);
            if answer.send(Ok(token)).is_err() {
                self.take_grant(&owner, name);
            }
        }
        self.drop_if_free(name);
    }

    fn drop_if_free(&mut self, name: &LockName) {
        if self.locks.get(name).is_some_and(|lock| lock.grants.is_empty() && lock.queue.is_empty())
        {
            self.locks.remove(name);
        }
    }

    fn forget_wait(&mut self, owner: &LockOwner, name: &LockName) {
        if let Some(names) = self.waits.get_mut(&owner.age) {
            if let Some(at) = names.iter().position(|waited| waited == name) {
                names.swap_remove(at);
            }
            if names.is_empty() {
                self.waits.remove(&owner.age);
            }
        }
    }

    fn take_grant(&mut self, owner: &LockOwner, name: &LockName) -> bool {
        let Some(lock) = self.locks.get_mut(name) else { return false };
        let before = lock.grants.len();
        lock.grants.retain(|grant| grant.owner.age != owner.age);
        if lock.grants.len() == before {
            return false;
        }
        if let Some(names) = self.held.get_mut(&owner.age) {
            names.remove(name);
            if names.is_empty() {
                self.held.remove(&owner.age);
            }
        }
        true
    }

    /// Owners that wait for each other, this one among them.
    fn circle(&self, age: u64) -> Option<Vec<u64>> {
        // Nobody waits for who holds nothing and has no other turn.
        let turns = self.waits.get(&age).map_or(0, Vec::len);
        if turns == 0 || (turns == 1 && !self.held.contains_key(&age)) {
            return None;
        }
        let mut came_from = HashMap::from([(age, age)]);
        let mut next = VecDeque::from([age]);
        while let Some(from) = next.pop_front() {
            for name in self.waits.get(&from).into_iter().flatten() {
                let Some(lock) = self.locks.get(name) else { continue };
                let turns = lock.queue.iter().enumerate();
                let own = turns.filter(|(_, waiter)| waiter.request.owner.age == from);
                for other in own.flat_map(|(at, _)| lock.blockers(at)) {
                    if other == age {
                        let mut circle = vec![from];
                        while let Some(before) = circle.last().and_then(|at| came_from.get(at))
                            && circle.last() != Some(&age)
                        {
                            circle.push(*before);
                        }
                        return Some(circle);
                    }
                    if let Entry::Vacant(vacant) = came_from.entry(other) {
                        vacant.insert(from);
                        next.push_back(other);
                    }
                }
            }
        }
        None
    }

    /// Ends the waits of an owner, so that others go on.
    fn give_way(&mut self, age: u64, now: Duration, fence: &Fence) {
        for name in self.waits.remove(&age).unwrap_or_default() {
            if let Some(lock) = self.locks.get_mut(&name) {
                let (own, others) =
                    lock.queue.drain(..).partition(|waiter| waiter.request.owner.age == age);
                lock.queue = others;
                let own: VecDeque<Waiter> = own;
                for waiter in own {
                    let error = StorageError::conflict(
                        "a deadlock: owners wait for each other, and this one is the youngest; \
                         release what it holds, and begin again",
                    );
                    let error = error.with_namespace(&*name.namespace).with_key(&*name.key);
                    let _ = waiter.answer.send(Err(error));
                }
            }
            self.promote(&name, now, fence);
        }
    }

    pub(super) fn cancel(&mut self, name: &LockName, id: u64, now: Duration, fence: &Fence) {
        let Some(lock) = self.locks.get_mut(name) else { return };
        let Some(at) = lock.queue.iter().position(|waiter| waiter.id == id) else { return };
        if let Some(waiter) = lock.queue.remove(at) {
            self.forget_wait(&waiter.request.owner, name);
        }
        self.promote(name, now, fence);
    }

    /// Whether an owner holds and waits for nothing.
    pub(super) fn is_idle(&self, owner: &LockOwner) -> bool {
        !self.held.contains_key(&owner.age) && !self.waits.contains_key(&owner.age)
    }

    pub(super) fn is_waiting(&self, name: &LockName, id: u64) -> bool {
        self.locks.get(name).is_some_and(|lock| lock.queue.iter().any(|waiter| waiter.id == id))
    }

    pub(super) fn release(
        &mut self,
        owner: &LockOwner,
        name: &LockName,
        now: Duration,
        fence: &Fence,
    ) -> bool {
        self.expire(name, now, fence);
        let released = self.take_grant(owner, name);
        self.promote(name, now, fence);
        released
    }

    pub(super) fn release_all(&mut self, owner: &LockOwner, now: Duration, fence: &Fence) {
        for name in self.held.get(&owner.age).cloned().unwrap_or_default() {
            self.release(owner, &name, now, fence);
        }
    }

    pub(super) fn renew(
        &mut self,
        owner: &LockOwner,
        name: &LockName,
        lease: Duration,
        now: Duration,
        fence: &Fence,
    ) -> Option<u64> {
        self.expire(name, now, fence);
        let grant = self.locks.get_mut(name)?.grant_of(owner)?;
        grant.until = Some(now + lease);
        Some(grant.token)
    }

    /// Frees the lock of owners whose lease has ended.
    pub(super) fn expire(&mut self, name: &LockName, now: Duration, fence: &Fence) {
        let Some(lock) = self.locks.get(name) else { return };
        let ended: Vec<LockOwner> = lock
            .grants
            .iter()
            .filter(|grant| grant.until.is_some_and(|until| until <= now))
            .map(|grant| grant.owner.clone())
            .collect();
        if ended.is_empty() {
            return;
        }
        for owner in ended {
            self.expired += u64::from(self.take_grant(&owner, name));
        }
        self.promote(name, now, fence);
    }

    fn expire_all(&mut self, now: Duration, fence: &Fence) {
        let names: Vec<LockName> = self.locks.keys().cloned().collect();
        names.iter().for_each(|name| self.expire(name, now, fence));
    }

    /// When the next lease of a lock ends.
    pub(super) fn next_expiry(&self, name: &LockName) -> Option<Duration> {
        self.locks.get(name)?.grants.iter().filter_map(|grant| grant.until).min()
    }

    /// Labels of those who hold a lock, or go before others that want it.
    pub(super) fn holders(&self, name: &LockName) -> Vec<String> {
        let Some(lock) = self.locks.get(name) else { return Vec::new() };
        let holders = lock.grants.iter().map(|grant| grant.owner.label().to_owned());
        holders.collect()
    }

    pub(super) fn list(&mut self, now: Duration, fence: &Fence) -> Vec<LockStatus> {
        self.expire_all(now, fence);
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let mut list = Vec::new();
        for (name, lock) in &self.locks {
            let status = |owner: &LockOwner, mode, since: Duration| LockStatus {
                namespace: name.namespace.clone(),
                key: name.key.clone(),
                owner: owner.label().to_owned(),
                mode,
                token: None,
                since_ms: ms(now.saturating_sub(since)),
                lease_left_ms: None,
            };
            list.extend(lock.grants.iter().map(|grant| LockStatus {
                token: Some(grant.token),
                lease_left_ms: grant.until.map(|until| ms(until.saturating_sub(now))),
                ..status(&grant.owner, grant.mode, grant.since)
            }));
            list.extend(
                lock.queue
                    .iter()
                    .map(|waiter| status(&waiter.request.owner, waiter.request.mode, waiter.since)),
            );
        }
        list
    }

    pub(super) fn figures(&mut self, now: Duration, fence: &Fence) -> LockFigures {
        self.expire_all(now, fence);
        let count = |of: fn(&Lock) -> usize| self.locks.values().map(of).sum::<usize>() as u64;
        LockFigures {
            held: count(|lock| lock.grants.len()),
            waiting: count(|lock| lock.queue.len()),
            granted: self.granted,
            deadlocks: self.deadlocks,
            expired: self.expired,
            timeouts: 0,
        }
    }
}

#[cfg(test)]
impl Table {
    /// What holds after each step.
    pub(super) fn check_rules(&self, owners: &[LockOwner]) {
        for (name, lock) in &self.locks {
            assert!(!lock.grants.is_empty() || !lock.queue.is_empty(), "{name} is free");
            let exclusive = lock.grants.iter().any(|grant| grant.mode == LockMode::Exclusive);
            assert!(!exclusive || lock.grants.len() == 1, "{name} is held twice");
            if let Some(first) = lock.queue.front() {
                assert!(!lock.admits(&first.request), "{name} could be given to who is next");
            }
            for grant in &lock.grants {
                assert!(self.held[&grant.owner.age].contains(name));
            }
        }
        let queued: usize = self.locks.values().map(|lock| lock.queue.len()).sum();
        assert_eq!(self.waits.values().map(Vec::len).sum::<usize>(), queued);
        let held: usize = self.locks.values().map(|lock| lock.grants.len()).sum();
        assert_eq!(self.held.values().map(BTreeSet::len).sum::<usize>(), held);
        for owner in owners {
            assert_eq!(self.circle(owner.age), None, "a circle is left");
        }
    }
}

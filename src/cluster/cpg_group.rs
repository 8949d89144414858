//! One group's membership: its connection, joining and leaving, the queue of messages that corosync
//! has not taken yet, and the effects of its state machine. What the effects mean to this node is for
//! the [`GroupDriver`].

use super::connect::Retry;
use super::cpg::{Connection, Report, Sent};
use super::in_flight::InFlight;
use crate::cfs::GroupReport;
use crate::dfsm::wire::Epoch;
use crate::dfsm::{
    App, Dfsm, Effect, Event, Frame, Level, Mode, Now, Purpose, SendError, Submission, Ticket,
};
use rust_corosync::CsError;
use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::time::Duration;

/// How long corosync may refuse a message before that is an error.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// Time between two tries to send.
const SEND_INTERVAL: Duration = Duration::from_millis(5);

/// Reports taken by one dispatch, so that neither group keeps the other waiting.
pub(super) const REPORTS_AT_ONCE: usize = 64;

/// Runs a group's state machine on its store, and carries out the effects of the application.
pub(super) trait GroupDriver<A: App> {
    /// Has the machine handle an event, with the store in hand.
    fn handle(&mut self, dfsm: &mut Dfsm<A>, event: Event<'_>, now: Now) -> Vec<Effect<A>>;
    /// Submits a request of a local caller to the machine, which checks it against the store.
    fn submit(&mut self, dfsm: &mut Dfsm<A>, submission: Submission<A::Request>, now: Now) -> Vec<Effect<A>>;
    /// Carries out an effect of the application.
    fn effect(&mut self, effect: A::Effect);
    /// Completes the local caller with this ticket.
    fn complete(&mut self, ticket: Ticket, result: Result<A::Outcome, SendError>);
    /// Called for each message or membership change from the group.
    fn on_group_active(&mut self) {}
    /// Where others look up what became of the group.
    fn report(&self) -> &GroupReport;
}

/// The group, whether or not there is a connection.
pub(super) struct CpgGroup<A: App> {
    dfsm: Dfsm<A>,
    connection: Option<Connection>,
    membership: Membership,
    /// The group is not joined for now.
    is_paused: bool,
    retry: Retry,
    /// In order; the first is tried again and again until corosync takes it.
    outgoing: VecDeque<Frame>,
    /// When the first was refused first.
    refused_since: Option<Duration>,
    in_flight: InFlight,
    /// A round of synchronisation began, and some member has not got all that it lacked.
    in_round: bool,
    /// Summary of the last report.
    last_summary: Option<Summary>,
}

/// Summary of a group's state. Any change of the state changes one of these fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Summary {
    mode: Mode,
    epoch: Epoch,
    members: usize,
    synced: usize,
}

/// Why the first message that waits cannot be sent.
enum Unsent {
    /// Corosync did not take it for too long.
    Refused,
    /// A change that corosync would send in several parts.
    SeveralParts,
    Failed(CsError),
}

/// What the group reported, and why it reports no more.
pub(super) type Reports = (Vec<Report>, Result<(), CsError>);

/// Whether corosync counts us in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Membership {
    Out,
    In,
    /// Left, but that was not reported yet.
    Leaving,
}

impl<A: App> CpgGroup<A> {
    pub(super) fn new(app: A) -> Self {
        Self {
            dfsm: Dfsm::new(app),
            connection: None,
            membership: Membership::Out,
            is_paused: false,
            retry: Retry::default(),
            outgoing: VecDeque::new(),
            refused_since: None,
            in_flight: InFlight::default(),
            in_round: false,
            last_summary: None,
        }
    }

    pub(super) fn dfsm_mut(&mut self) -> &mut Dfsm<A> {
        &mut self.dfsm
    }

    /// To be polled for reading, while there is a connection.
    pub(super) fn fd(&self) -> Option<RawFd> {
        self.connection.as_ref().map(Connection::fd)
    }

    /// Uptime at which [`CpgGroup::poll`] must be called at the latest.
    pub(super) fn due(&self) -> Duration {
        let join = match self.membership {
            Membership::Out if self.may_join() => self.retry.due().unwrap_or_default(),
            Membership::Out | Membership::In | Membership::Leaving => Duration::MAX,
        };
        let send = self.refused_since.map_or(Duration::MAX, |_| Duration::ZERO);
        join.min(send).min(self.dfsm.next_tick())
    }

    /// Longest wait after [`CpgGroup::due`] has passed.
    pub(super) fn pause(&self) -> Duration {
        if self.refused_since.is_some() { SEND_INTERVAL } else { Duration::ZERO }
    }

    /// Joins if it is time to, sends what waits, lets time pass.
    pub(super) fn poll(&mut self, driver: &mut impl GroupDriver<A>, now: Now) {
        if self.membership == Membership::Out && self.may_join() && self.retry.is_due(now.uptime) {
            self.join(driver, now);
        }
        self.send_waiting(driver, now);
        driver.report().set_backlog(self.backlog());
        if self.dfsm.next_tick() <= now.uptime {
            self.handle(driver, Event::Tick, now);
        }
    }

    /// Stops joining, or allows it again, then without delay. Returns true if that is a change.
    pub(super) fn set_paused(&mut self, is_paused: bool) -> bool {
        let is_change = std::mem::replace(&mut self.is_paused, is_paused) != is_paused;
        if is_change && !is_paused {
            self.retry = Retry::default();
        }
        is_change
    }

    fn may_join(&self) -> bool {
        self.dfsm.mode().is_restartable() && !self.is_paused
    }

    /// How much waits to be sent.
    pub(super) fn backlog(&self) -> usize {
        self.outgoing.len() + self.dfsm.unsent()
    }

    /// So much at `most` of what the group reported since the last time; to be handled in this order, then
    /// the end of it.
    pub(super) fn dispatch_batch(&mut self, most: usize) -> Reports {
        self.connection.as_ref().map_or_else(|| (Vec::new(), Ok(())), |connection| connection.dispatch(most))
    }

    /// Handles what the group reported.
    pub(super) fn dispatch(&mut self, driver: &mut impl GroupDriver<A>, now: Now) {
        let (reports, outcome) = self.dispatch_batch(REPORTS_AT_ONCE);
        for report in reports {
            self.handle_report(driver, report, now);
        }
        self.finish_reports(driver, outcome, now);
    }

    /// Handles one report.
    pub(super) fn handle_report(&mut self, driver: &mut impl GroupDriver<A>, report: Report, now: Now) {
        // The connection may have been lost over an earlier one.
        let Some(local) = self.connection.as_ref().map(Connection::local) else { return };
        driver.on_group_active();
        match report {
            Report::Deliver { from, bytes } => {
                if from == local {
                    self.in_flight.back(bytes.len());
                }
                driver.report().delivered.one();
                self.handle(driver, Event::Deliver { from, bytes: &bytes }, now);
            }
            Report::Confchg { members, joined } => {
                // What did not come back until now might never.
                self.in_flight = InFlight::default();
                self.handle(driver, Event::Confchg { members: &members, joined }, now);
            }
        }
    }

    /// After the reports: whether there can be more.
    pub(super) fn finish_reports(
        &mut self,
        driver: &mut impl GroupDriver<A>,
        outcome: Result<(), CsError>,
        now: Now,
    ) {
        if let (Err(error), true) = (outcome, self.connection.is_some()) {
            self.lost(driver, error, now);
        }
    }

    /// Hands an event to the state machine and carries out what follows.
    pub(super) fn handle(&mut self, driver: &mut impl GroupDriver<A>, event: Event<'_>, now: Now) {
        let effects = driver.handle(&mut self.dfsm, event, now);
        self.run_effects(driver, effects, now);
        self.send_waiting(driver, now);
        driver.report().set_backlog(self.backlog());
    }

    fn run_effects(&mut self, driver: &mut impl GroupDriver<A>, effects: Vec<Effect<A>>, now: Now) {
        for effect in effects {
            match effect {
                Effect::Send(frame) => self.outgoing.push_back(frame),
                Effect::Mode(mode) => self.mode_changed(mode),
                Effect::Left => self.left(),
                Effect::Answer { ticket, result } => driver.complete(ticket, result),
                Effect::Log(Level::Info, text) => log::info!(target: A::DOMAIN, "{text}"),
                Effect::Log(Level::Critical, text) => log::error!(target: A::DOMAIN, "{text}"),
                Effect::App(effect) => driver.effect(effect),
            }
        }
        self.report(driver.report(), now);
    }

    /// Writes down what became of the group, if anything did.
    fn report(&mut self, report: &GroupReport, now: Now) {
        let members = self.dfsm.members();
        let summary = Summary {
            mode: self.dfsm.mode(),
            epoch: self.dfsm.epoch(),
            members: members.len(),
            synced: members.iter().filter(|member| member.synced).count(),
        };
        if self.last_summary.replace(summary) != Some(summary) {
            let members = members.iter().map(|member| (member.id, member.synced)).collect();
            report.tell(summary.mode, now.unix, summary.epoch, members);
        }
    }

    /// Leaves for good.
    pub(super) fn close(&mut self) {
        if self.membership == Membership::In {
            if let Some(Err(error)) = self.connection.as_ref().map(Connection::leave) {
                log::debug!(target: A::DOMAIN, "leaving the group: {error}");
            }
        }
        self.connection = None;
        self.membership = Membership::Out;
    }

    /// Corosync counts us out. It never lets a connection that left join again, so the next join has its own.
    fn left(&mut self) {
        self.membership = Membership::Out;
        self.connection = None;
    }

    fn join(&mut self, driver: &mut impl GroupDriver<A>, now: Now) {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => match Connection::open(A::GROUP) {
                Ok(connection) => connection,
                Err(error) => {
                    if self.retry.failed() {
                        log::error!(target: A::DOMAIN, "cpg_initialize failed: {error}");
                    }
                    return;
                }
            },
        };
        // Before anything can be reported as this member.
        self.handle(driver, Event::Join(connection.local()), now);
        match connection.join() {
            Ok(()) => {
                self.retry.succeeded();
                self.membership = Membership::In;
                self.connection = Some(connection);
            }
            // It exists where corosync has not yet noticed the end of the connection that left.
            Err(CsError::CsErrTryAgain | CsError::CsErrExist) => self.connection = Some(connection),
            Err(error) => {
                if self.retry.failed() {
                    log::error!(target: A::DOMAIN, "cpg_join failed: {error}");
                }
            }
        }
    }

    /// Whether a round of synchronisation is over, for all members; once for each.
    pub(super) fn round_ended(&mut self) -> bool {
        let is_over = self.in_round && self.dfsm.members().iter().all(|member| member.synced);
        if is_over {
            self.in_round = false;
            self.outgoing.shrink_to_fit();
        }
        is_over
    }

    fn mode_changed(&mut self, mode: Mode) {
        self.in_round |= mode == Mode::StartSync;
        if !mode.is_error() {
            return;
        }
        // Nothing of before may reach the group when it is joined again.
        self.clear_send_queue();
        if self.membership != Membership::In {
            return;
        }
        self.membership = Membership::Leaving;
        if let Some(Err(error)) = self.connection.as_ref().map(Connection::leave) {
            log::error!(target: A::DOMAIN, "cpg_leave failed: {error}");
            self.connection = None;
            self.membership = Membership::Out;
        }
    }

    /// Submits a request to the machine, and sends as much as corosync accepts. Any thread may call this:
    /// [`CpgGroup::poll`] handles a broken connection and messages that could not be sent. Returns true if
    /// such messages exist.
    pub(super) fn submit(
        &mut self,
        driver: &mut impl GroupDriver<A>,
        submission: Submission<A::Request>,
        now: Now,
    ) -> bool {
        let effects = driver.submit(&mut self.dfsm, submission, now);
        self.run_effects(driver, effects, now);
        let is_left = self.send_what_can_be_sent(driver, now).is_err() || !self.outgoing.is_empty();
        driver.report().set_backlog(self.backlog());
        is_left
    }

    /// Sends what waits, in order, until corosync has no room.
    fn send_waiting(&mut self, driver: &mut impl GroupDriver<A>, now: Now) {
        while let Err(unsent) = self.send_what_can_be_sent(driver, now) {
            match unsent {
                Unsent::Refused => self.drop_unsent(driver, "corosync does not take it", now),
                Unsent::SeveralParts => {
                    self.drop_unsent(driver, "the change is longer than corosync sends at once", now);
                }
                Unsent::Failed(error @ (CsError::CsErrLibrary | CsError::CsErrBadHandle)) => {
                    return self.lost(driver, error, now);
                }
                Unsent::Failed(error) => self.drop_unsent(driver, &error.to_string(), now),
            }
        }
    }

    fn send_what_can_be_sent(&mut self, driver: &mut impl GroupDriver<A>, now: Now) -> Result<(), Unsent> {
        while let (Some(frame), Some(connection), Membership::In) =
            (self.outgoing.front(), &self.connection, self.membership)
        {
            let len = frame.bytes.len();
            if !self.in_flight.has_room(len) {
                break;
            }
            if matches!(frame.purpose, Purpose::Normal(_)) && !connection.fits_in_one_part(len) {
                return Err(Unsent::SeveralParts);
            }
            match connection.send(&frame.to_vec()).map_err(Unsent::Failed)? {
                Sent::Yes => {
                    self.refused_since = None;
                    self.in_flight.sent(len);
                    driver.report().sent.one();
                    self.outgoing.pop_front();
                }
                Sent::TryAgain => {
                    let since = *self.refused_since.get_or_insert(now.uptime);
                    let is_too_long = now.uptime.saturating_sub(since) >= SEND_TIMEOUT;
                    return if is_too_long { Err(Unsent::Refused) } else { Ok(()) };
                }
            }
        }
        Ok(())
    }

    fn drop_unsent(&mut self, driver: &mut impl GroupDriver<A>, reason: &str, now: Now) {
        self.refused_since = None;
        if let Some(frame) = self.outgoing.pop_front() {
            log::error!(target: A::DOMAIN, "cpg_send_message failed: {reason}");
            let effects = driver.handle(&mut self.dfsm, Event::SendFailed(frame.purpose), now);
            self.run_effects(driver, effects, now);
        }
    }

    fn clear_send_queue(&mut self) {
        self.outgoing.clear();
        self.refused_since = None;
        self.in_flight = InFlight::default();
    }

    /// The connection is gone, and with it the membership.
    fn lost(&mut self, driver: &mut impl GroupDriver<A>, error: CsError, now: Now) {
        log::error!(target: A::DOMAIN, "the connection to the process group is lost: {error}");
        self.connection = None;
        self.membership = Membership::Out;
        self.clear_send_queue();
        // As if nobody were there, this process included: who waits is released.
        let nobody = Event::Confchg { members: &[], joined: false };
        let effects = driver.handle(&mut self.dfsm, nobody, now);
        self.run_effects(driver, effects, now);
    }
}

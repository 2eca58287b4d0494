//! The end: warnings, the deadline, orders, and the killing of the tree.

use std::io;

use elevon_policy::event::EndReason;
use elevon_policy::lists::AtExpiry;
use elevon_policy::time::Span;
use elevon_wire::conversation::ToClient;
use rustix::process::{Signal, getpid, setpriority_process};
use rustix::time::{Itimerspec, TimerfdTimerFlags, Timespec, timerfd_settime};

use super::Session;
use crate::clock::Uptime;
use crate::files;
use crate::launch::{Order, Plan, containment};

/// How often a tree that does not want to end is killed again.
const AGAIN: Span = Span::from_millis(10);

/// How far the end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The next alarm is the warning.
    Running { warning: Uptime, terminate: Uptime },
    /// The next alarm asks the tree to end.
    Warned { terminate: Uptime },
    /// The next alarm kills.
    Asked { kill: Uptime },
    /// Killed, again and again until nothing is left.
    Killing,
    /// No alarm: what runs may finish.
    Unlimited,
}

impl Session {
    pub(super) fn take_signals(&mut self) -> io::Result<()> {
        // What they say is read from the children themselves, and from an order.
        let _ = rustix::io::read(&self.signals, &mut [0; 1024]);
        self.take_in_children();
        let path = self.plan.folder.join(format!("{}.order", self.plan.launch));
        let Ok(Some(order)) = files::read_json::<Order>(&path) else {
            return Ok(());
        };
        files::remove(&path)?;
        if self.ending.is_none() {
            // What ended by itself, with everything it had started, was not ended by what came a moment later: the end of a
            // launch is often all that its origin waits for.
            self.ending = (!self.is_over()).then_some(order.reason);
            self.stage = Stage::Asked { kill: Uptime::now().after(order.grace) };
            if order.grace > Span::ZERO {
                self.say(&ToClient::Warning { left: order.grace, reason: order.reason });
                ask_to_end();
            }
        }
        self.take_alarm()
    }

    /// Whether the program has ended by itself, and left nothing but its monitor, where it had one: that ends next.
    fn is_over(&self) -> bool {
        let monitor = self.monitor.map(|monitor| monitor.as_raw_nonzero().get());
        self.exit.is_some() && containment::descendants(getpid()).into_iter().all(|pid| Some(pid) == monitor)
    }

    /// Goes as far towards the end as the time has come for.
    pub(super) fn take_alarm(&mut self) -> io::Result<()> {
        // The number of alarms says nothing.
        let _ = rustix::io::read(&self.timer, &mut [0; 8]);
        loop {
            let due = |at: Uptime| at <= Uptime::now();
            self.stage = match self.stage {
                Stage::Running { warning, terminate } if due(warning) => {
                    let left = self.plan.deadline.left();
                    self.say(&ToClient::Warning { left, reason: EndReason::Expired });
                    Stage::Warned { terminate }
                }
                Stage::Warned { terminate } if due(terminate) => {
                    self.ending = Some(EndReason::Expired);
                    // Looking for all of them takes its time, which there is none of where nothing may go on.
                    if !due(self.plan.deadline) {
                        ask_to_end();
                    }
                    Stage::Asked { kill: self.plan.deadline }
                }
                Stage::Asked { kill } if due(kill) => Stage::Killing,
                Stage::Killing => {
                    self.kill();
                    break;
                }
                Stage::Running { .. } | Stage::Warned { .. } | Stage::Asked { .. } | Stage::Unlimited => {
                    break;
                }
            };
        }
        self.set_alarm()
    }

    fn kill(&self) {
        take_precedence();
        if let Some(cgroup) = &self.plan.cgroup {
            containment::kill_cgroup(cgroup);
        }
        containment::signal_descendants(getpid(), Signal::KILL);
    }

    pub(super) fn set_alarm(&self) -> io::Result<()> {
        let at = match self.stage {
            Stage::Running { warning, .. } => warning,
            Stage::Warned { terminate } => terminate,
            Stage::Asked { kill } => kill,
            Stage::Killing => Uptime::now().after(AGAIN),
            Stage::Unlimited => return Ok(()),
        };
        let alarm = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: at.alarm() };
        timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &alarm)?;
        Ok(())
    }

    pub(super) fn is_populated(&self) -> bool {
        self.plan.cgroup.as_deref().is_some_and(containment::is_populated)
    }
}

fn ask_to_end() {
    take_precedence();
    containment::signal_descendants(getpid(), Signal::TERM);
}

/// Ending goes before whatever else the computer is busy with, the program itself above all. Where that cannot be had, the end
/// still comes. Nothing is forked any more that would have it, too.
fn take_precedence() {
    let _ = setpriority_process(None, -20);
}

/// The alarms before the end. Warning and grace take no more than a half and a quarter of a short grant.
pub(super) fn first_stage(plan: &Plan) -> Stage {
    let AtExpiry::Terminate { warning, grace } = plan.at_expiry else {
        return Stage::Unlimited;
    };
    let left = plan.deadline.left();
    let part = |of: u64| Span::from_millis(left.millis() / of);
    let terminate = plan.deadline.before(grace.min(part(4)));
    let warning = plan.deadline.before(warning.min(part(2))).min(terminate);
    Stage::Running { warning, terminate }
}

//! What stands beside a record, so that the report can be filtered by it: all of it repeats what the record says.

use elevon_policy::event::Event;

use super::Origin;

/// The columns, in their order: the account's or token's name; the computer it is about; the operating-system user's name;
/// the application's path, escaped; the list; the request; the grant; the launch.
pub const NAMES: [&str; 8] = [
    "account",
    "computer_id",
    "user_name",
    "application",
    "policy_id",
    "request_id",
    "grant_id",
    "launch_id",
];

/// What they hold of this event; nothing where it does not say.
pub fn of(origin: Origin, event: &Event) -> [Option<String>; NAMES.len()] {
    let about = event.what.subjects();
    let computer = match origin {
        Origin::Computer(id) => Some(id),
        Origin::Server => about.computer,
    };
    [
        event.by.as_ref().map(|by| super::name(by).as_untrusted().to_owned()),
        computer.map(|id| id.to_string()),
        about.user.map(|user| user.as_untrusted().to_owned()),
        about.application.map(|path| path.escaped()),
        about.policy.map(|id| id.to_string()),
        about.request.map(|id| id.to_string()),
        about.grant.map(|id| id.to_string()),
        about.launch.map(|id| id.to_string()),
    ]
}

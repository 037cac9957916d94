//! Quotas and policy: who may have, run and ask for what. Pure; verdicts are made once for the whole set and reach each object as data.
//!
//! **Invariant:** going over a quota is a condition of the object that went over; the oldest life wins, and nothing that runs is stopped for it.

pub mod policy;

use std::collections::BTreeMap;

use crate::resource::tenant::{Policy, Quota, TenantDefaults};
use crate::resource::workspace::Resources;
use crate::resource::{Kind, ObjectRef, TenantSpec, Uid};

/// The tenant whose spec holds for everyone.
pub const DEFAULT: &str = "default";

/// One workspace or preview that is declared; what is deleted and waits in its tombstone is not in the roster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Which.
    pub object: ObjectRef,
    /// Its life; the order of uids is the order of age.
    pub uid: Uid,
    /// Whether it should run as far as itself is concerned: declared so, and not stopped by its idle timeout, lifetime, hours or expiry.
    pub wants_run: bool,
    /// Whether it runs now.
    pub running: bool,
    /// A preview: the workspace that it copies.
    pub workspace: Option<String>,
}

/// The sentence that says which quota stands in the way of each object; `None`: none does.
pub fn standing(roster: &[Member], tenants: &BTreeMap<String, TenantSpec>) -> BTreeMap<ObjectRef, Option<String>> {
    let mut namespaces: BTreeMap<&str, Vec<&Member>> = BTreeMap::new();
    for member in roster {
        namespaces.entry(member.object.ns()).or_default().push(member);
    }
    let mut verdicts = BTreeMap::new();
    for (namespace, mut members) in namespaces {
        members.sort_by(|a, b| a.uid.cmp(&b.uid).then_with(|| a.object.cmp(&b.object)));
        let quota = resolve_tenant(tenants, namespace).quota.unwrap_or_default();
        verdicts.extend(members.iter().map(|member| (member.object.clone(), None)));
        refuse(&mut verdicts, workspaces_over(&members, &quota, namespace));
        refuse(&mut verdicts, previews_over(&members, &quota, namespace));
    }
    verdicts
}

/// Members that are over one quota, and the sentence that says so.
type Over<'a> = (Vec<&'a Member>, Option<String>);

/// Nothing that runs is stopped.
fn refuse<'a>(verdicts: &mut BTreeMap<ObjectRef, Option<String>>, over: impl IntoIterator<Item = Over<'a>>) {
    for (members, sentence) in over {
        verdicts.extend(members.iter().filter(|member| !member.running).map(|member| (member.object.clone(), sentence.clone())));
    }
}

/// The workspaces of one namespace, oldest first, that may not be or not run.
fn workspaces_over<'a>(members: &[&'a Member], quota: &Quota, namespace: &str) -> [Over<'a>; 2] {
    let all: Vec<&Member> = of_kind(members, Kind::Workspace).collect();
    let (may_be, too_many) = split(&all, quota.max_workspaces);
    let sentence = quota.max_workspaces.map(|limit| message("maxWorkspaces", limit, namespace, may_be, REMEDY_ALL));
    // Those that run first, then the oldest; whoever may not be takes a place only by running already.
    let running = all.iter().filter(|member| member.running);
    let waiting = may_be.iter().filter(|member| member.wants_run && !member.running);
    let order: Vec<&Member> = running.chain(waiting).copied().collect();
    let (may_run, must_wait) = split(&order, quota.max_running);
    let must_wait_for = quota.max_running.map(|limit| message("maxRunning", limit, namespace, may_run, "stop one of them, or wait until one stops"));
    [(too_many.to_vec(), sentence), (must_wait.to_vec(), must_wait_for)]
}

/// The previews of one namespace that are too many for their workspaces.
fn previews_over<'a>(members: &[&'a Member], quota: &Quota, namespace: &str) -> Vec<Over<'a>> {
    let mut by_workspace: BTreeMap<&str, Vec<&Member>> = BTreeMap::new();
    for preview in of_kind(members, Kind::Preview).filter(|preview| preview.wants_run || preview.running) {
        if let Some(workspace) = &preview.workspace {
            by_workspace.entry(workspace).or_default().push(preview);
        }
    }
    let over = |all: Vec<&'a Member>| {
        let (may_be, too_many) = split(&all, quota.max_previews_per_workspace);
        let remedy = "delete one of them, or wait until one expires";
        let sentence = quota.max_previews_per_workspace.map(|limit| message("maxPreviewsPerWorkspace", limit, namespace, may_be, remedy));
        (too_many.to_vec(), sentence)
    };
    by_workspace.into_values().map(over).collect()
}

/// What is within the limit, and what is not.
fn split<'m, 'a>(members: &'m [&'a Member], limit: Option<u32>) -> (&'m [&'a Member], &'m [&'a Member]) {
    members.split_at(limit.map_or(members.len(), |limit| size(limit).min(members.len())))
}

const REMEDY_ALL: &str = "delete one of them, or ask for a higher quota";

/// Whether the namespace may have one more object of this kind; a preview names its workspace.
///
/// # Errors
/// The sentence that says which quota is used up, by whom, and what to do.
pub fn may_create(roster: &[Member], tenants: &BTreeMap<String, TenantSpec>, namespace: &str, kind: Kind, workspace: Option<&str>) -> Result<(), String> {
    let mut members: Vec<&Member> = roster.iter().filter(|member| member.object.ns() == namespace).collect();
    members.sort_by(|a, b| a.uid.cmp(&b.uid));
    let quota = resolve_tenant(tenants, namespace).quota.unwrap_or_default();
    let (name, limit, holders): (_, _, Vec<&Member>) = match (kind, workspace) {
        (Kind::Workspace, _) => ("maxWorkspaces", quota.max_workspaces, of_kind(&members, Kind::Workspace).collect()),
        (Kind::Preview, Some(workspace)) => ("maxPreviewsPerWorkspace", quota.max_previews_per_workspace, previews_of(&members, workspace).collect()),
        (Kind::Preview, None) | (Kind::WorkspaceType | Kind::Tenant | Kind::Namespace, _) => return Ok(()),
    };
    match limit.filter(|limit| holders.len() >= size(*limit)) {
        Some(limit) => Err(message(name, limit, namespace, &holders, REMEDY_ALL)),
        None => Ok(()),
    }
}

fn of_kind<'a>(members: &[&'a Member], kind: Kind) -> impl Iterator<Item = &'a Member> {
    members.iter().copied().filter(move |member| member.object.kind == kind)
}

/// The previews of a workspace that have not expired.
fn previews_of<'a>(members: &[&'a Member], workspace: &str) -> impl Iterator<Item = &'a Member> {
    of_kind(members, Kind::Preview).filter(move |member| member.workspace.as_deref() == Some(workspace) && (member.wants_run || member.running))
}

fn size(limit: u32) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

/// `maxRunning of alice is 2 and all are used, by workspace/shop, workspace/blog: stop one of them, ...`; at most ten are named.
fn message(quota: &str, limit: u32, namespace: &str, holders: &[&Member], remedy: &str) -> String {
    if limit == 0 {
        return format!("{quota} of {namespace} is 0: ask for a higher quota");
    }
    let mut names: Vec<String> = holders.iter().take(10).map(|member| member.object.short()).collect();
    let unnamed = holders.len().saturating_sub(names.len());
    if unnamed > 0 {
        names.push(format!("{unnamed} more"));
    }
    format!("{quota} of {namespace} is {limit} and all are used, by {}: {remedy}", names.join(", "))
}

/// The spec of a namespace's tenant, each field that it leaves out taken from `Tenant/default`. A list replaces the default's.
pub fn resolve_tenant(tenants: &BTreeMap<String, TenantSpec>, namespace: &str) -> TenantSpec {
    let own = tenants.get(namespace).cloned().unwrap_or_default();
    let base = tenants.get(DEFAULT).cloned().unwrap_or_default();
    TenantSpec {
        display_name: own.display_name,
        email: own.email,
        quota: both(own.quota, base.quota, |own, base| Quota {
            max_workspaces: own.max_workspaces.or(base.max_workspaces),
            max_running: own.max_running.or(base.max_running),
            max_previews_per_workspace: own.max_previews_per_workspace.or(base.max_previews_per_workspace),
            cpu: own.cpu.or(base.cpu),
            memory: own.memory.or(base.memory),
            disk: own.disk.or(base.disk),
        }),
        defaults: both(own.defaults, base.defaults, |own, base| TenantDefaults {
            cpu: own.cpu.or(base.cpu),
            memory: own.memory.or(base.memory),
            disk: own.disk.or(base.disk),
            idle_timeout: own.idle_timeout.or(base.idle_timeout),
            max_lifetime: own.max_lifetime.or(base.max_lifetime),
            preview_ttl: own.preview_ttl.or(base.preview_ttl),
            workspace: own.workspace.or(base.workspace),
        }),
        policy: both(own.policy, base.policy, |own, base| Policy {
            images: own.images.or(base.images),
            host_paths: own.host_paths.or(base.host_paths),
            networks: own.networks.or(base.networks),
            external_volumes: own.external_volumes.or(base.external_volumes),
            profile: own.profile.or(base.profile),
        }),
    }
}

fn both<T>(own: Option<T>, base: Option<T>, merge: impl Fn(T, T) -> T) -> Option<T> {
    match (own, base) {
        (Some(own), Some(base)) => Some(merge(own, base)),
        (own, base) => own.or(base),
    }
}

/// The limits of a container within the quota, with a note for each value that was lowered. No limit at all becomes the quota's, without a note.
pub fn cap(resources: &Resources, quota: &Quota) -> (Resources, Vec<String>) {
    let mut notes = Vec::new();
    let capped = Resources {
        cpu: lower("cpu", resources.cpu, quota.cpu, &mut notes),
        memory: lower("memory", resources.memory, quota.memory, &mut notes),
        disk: lower("disk", resources.disk, quota.disk, &mut notes),
        pids: resources.pids,
    };
    (capped, notes)
}

fn lower<T: Copy + Ord + std::fmt::Display>(name: &str, asked: Option<T>, limit: Option<T>, notes: &mut Vec<String>) -> Option<T> {
    match (asked, limit) {
        (Some(asked), Some(limit)) if asked > limit => {
            notes.push(format!("resources.{name}: {asked} is more than the quota allows, {limit} is used; ask for less, or for a higher quota"));
            Some(limit)
        }
        (asked, limit) => asked.or(limit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::{Bytes, Cpu, Duration};

    fn workspace(age: u32, running: bool) -> Member {
        let object = ObjectRef::new(Kind::Workspace, "alice", &format!("w{age}"));
        Member { object, uid: Uid(format!("0198-{age}")), wants_run: true, running, workspace: None }
    }
    fn preview(age: u32, of: Option<&str>, wants_run: bool) -> Member {
        let object = ObjectRef::new(Kind::Preview, "alice", &format!("p{age}"));
        Member { object, uid: Uid(format!("0198-{age}")), wants_run, running: false, workspace: of.map(str::to_owned) }
    }
    fn tenants(quota: Quota) -> BTreeMap<String, TenantSpec> {
        BTreeMap::from([(DEFAULT.to_owned(), TenantSpec { quota: Some(quota), ..TenantSpec::default() })])
    }
    /// The names of those that may not run, and why.
    fn refused(roster: &[Member], quota: Quota) -> Vec<(String, String)> {
        let verdicts = standing(roster, &tenants(quota));
        assert_eq!(verdicts.len(), roster.len());
        verdicts.into_iter().filter_map(|(object, over)| over.map(|over| (object.name, over))).collect()
    }

    #[test]
    fn without_a_quota_everything_may_run() {
        let roster = [workspace(1, false), workspace(2, false), preview(3, Some("w1"), true)];
        assert_eq!(standing(&roster, &BTreeMap::new()).values().flatten().count(), 0);
    }

    #[test]
    fn the_oldest_workspaces_may_be_and_the_message_says_what_to_do() {
        let quota = Quota { max_workspaces: Some(2), ..Quota::default() };
        let mut roster = [workspace(3, false), workspace(1, false), workspace(2, false)];
        roster[0].wants_run = false;
        let over = "maxWorkspaces of alice is 2 and all are used, by workspace/w1, workspace/w2: delete one of them, or ask for a higher quota";
        assert_eq!(refused(&roster, quota.clone()), [("w3".to_owned(), over.to_owned())]);
        assert_eq!(may_create(&roster[..1], &tenants(quota.clone()), "alice", Kind::Workspace, None), Ok(()));
        assert_eq!(may_create(&roster[1..], &tenants(quota.clone()), "alice", Kind::Workspace, None), Err(over.to_owned()));
        assert_eq!(may_create(&roster[1..], &tenants(quota), "bob", Kind::Workspace, None), Ok(()));
    }

    #[test]
    fn nothing_that_runs_is_stopped_for_a_quota_and_it_takes_its_place() {
        let quota = Quota { max_running: Some(2), ..Quota::default() };
        let roster = [workspace(1, false), workspace(2, false), workspace(3, true)];
        let names: Vec<String> = refused(&roster, quota.clone()).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["w2"], "the one that runs, then the oldest");
        let all_run = [workspace(1, true), workspace(2, true), workspace(3, true)];
        assert_eq!(refused(&all_run, Quota { max_workspaces: Some(0), max_running: Some(1), ..Quota::default() }), []);
        let mut stopped = workspace(1, false);
        stopped.wants_run = false;
        assert_eq!(refused(&[stopped, workspace(2, false), workspace(3, false)], quota), [], "who does not want to run takes no place");
    }

    #[test]
    fn whoever_may_not_be_takes_no_place_among_those_that_run() {
        let quota = Quota { max_workspaces: Some(1), max_running: Some(2), ..Quota::default() };
        let names: Vec<String> = refused(&[workspace(1, false), workspace(2, false), workspace(3, false)], quota).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["w2", "w3"]);
    }

    #[test]
    fn previews_are_counted_by_workspace_until_they_expire() {
        let quota = Quota { max_previews_per_workspace: Some(1), ..Quota::default() };
        let roster = [
            preview(1, Some("shop"), false),
            preview(2, Some("shop"), true),
            preview(3, Some("shop"), true),
            preview(4, Some("blog"), true),
            preview(5, None, true),
            preview(6, None, true),
        ];
        let over = "maxPreviewsPerWorkspace of alice is 1 and all are used, by preview/p2: delete one of them, or wait until one expires";
        assert_eq!(refused(&roster, quota.clone()), [("p3".to_owned(), over.to_owned())]);
        assert!(may_create(&roster, &tenants(quota.clone()), "alice", Kind::Preview, Some("shop")).is_err());
        assert!(may_create(&roster, &tenants(quota.clone()), "alice", Kind::Preview, Some("new")).is_ok());
        assert!(may_create(&roster, &tenants(quota), "alice", Kind::Preview, None).is_ok());
    }

    #[test]
    fn a_tenant_is_merged_over_the_default_one_field_by_field() {
        let base = TenantSpec {
            quota: Some(Quota { max_workspaces: Some(2), max_running: Some(1), ..Quota::default() }),
            defaults: Some(TenantDefaults { idle_timeout: Some(Duration::from_secs(1800)), ..TenantDefaults::default() }),
            policy: Some(Policy { images: Some(vec!["ours/*".to_owned()]), networks: Some(vec!["db".to_owned()]), ..Policy::default() }),
            email: Some("all@example.com".to_owned()),
            ..TenantSpec::default()
        };
        let own = TenantSpec {
            quota: Some(Quota { max_workspaces: Some(5), ..Quota::default() }),
            policy: Some(Policy { images: Some(vec!["*".to_owned()]), ..Policy::default() }),
            ..TenantSpec::default()
        };
        let tenants = BTreeMap::from([(DEFAULT.to_owned(), base.clone()), ("alice".to_owned(), own)]);
        let alice = resolve_tenant(&tenants, "alice");
        assert_eq!(alice.quota, Some(Quota { max_workspaces: Some(5), max_running: Some(1), ..Quota::default() }));
        assert_eq!(alice.defaults, base.defaults);
        assert_eq!(alice.policy, Some(Policy { images: Some(vec!["*".to_owned()]), networks: Some(vec!["db".to_owned()]), ..Policy::default() }));
        assert_eq!(alice.email, None, "who somebody is is not inherited");
        assert_eq!(resolve_tenant(&tenants, "bob").quota, base.quota);
    }

    #[test]
    fn limits_above_the_quota_are_lowered_with_a_note() {
        let quota = Quota { cpu: Some(Cpu(1_000_000_000)), memory: Some(Bytes(2 << 30)), ..Quota::default() };
        let asked = Resources { cpu: Some(Cpu(4_000_000_000)), disk: Some(Bytes(1)), pids: Some(9), ..Resources::default() };
        let (capped, notes) = cap(&asked, &quota);
        assert_eq!(capped, Resources { cpu: quota.cpu, memory: quota.memory, disk: asked.disk, pids: asked.pids });
        assert_eq!(notes, ["resources.cpu: 4 is more than the quota allows, 1 is used; ask for less, or for a higher quota"]);
    }
}

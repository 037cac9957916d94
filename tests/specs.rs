//! The demo and the examples say what dockmaster reads, need no registry, and mount only what lies beside them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use dockmaster::desired::ImageWant;
use dockmaster::resource::Resource;
use dockmaster::source::Item;
use dockmaster::source::parse::parse_bytes;
use dockmaster::source::select::{FileContext, is_spec_file};

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Every document below a root; a problem in one fails the test with its text.
fn items(root: &str) -> Vec<Item> {
    let (path, mut items, mut folders) = (repository(root), Vec::new(), vec![repository(root)]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let file = entry.unwrap().path();
            if file.is_dir() {
                folders.push(file);
            } else if is_spec_file(file.file_name().unwrap().to_str().unwrap()) {
                let relative = file.strip_prefix(&path).unwrap().to_str().unwrap();
                let parsed = parse_bytes(&fs::read(&file).unwrap(), &FileContext::new(root, &path, relative, None));
                assert!(parsed.problems.is_empty(), "{:#?}", parsed.problems);
                items.extend(parsed.items);
            }
        }
    }
    assert!(!items.is_empty(), "{root} holds no specs");
    items
}

/// What a workspace runs and mounts can be had without a registry, from this repository alone.
fn stands_alone(items: &[Item]) {
    for item in items {
        let Resource::Workspace(workspace) = &item.resource else { continue };
        let name = &workspace.metadata.name;
        let images = workspace.spec.image.iter().chain(workspace.spec.services.values().map(|service| &service.image));
        images.for_each(|image| assert_eq!(image, ImageWant::HELPER, "{name}"));
        let declared = items.iter().filter_map(|item| match &item.resource {
            Resource::WorkspaceType(declared) => Some(declared.metadata.name.as_str()),
            Resource::Workspace(_) | Resource::Preview(_) | Resource::Tenant(_) => None,
        });
        let types: BTreeSet<&str> = declared.chain(["static"]).collect();
        assert!(workspace.spec.type_.iter().all(|type_| types.contains(type_.as_str())), "{name}");
        for host in workspace.spec.mounts.iter().filter_map(|mount| mount.host.as_ref()) {
            assert!(item.directory.join(host).join("index.html").is_file(), "{name} mounts {host}, which is not beside it");
        }
    }
}

#[test]
fn the_demo_is_three_workspaces_of_different_shape_in_two_namespaces() {
    let items = items("specs");
    stands_alone(&items);
    let workspaces: Vec<_> = items
        .iter()
        .filter_map(|item| match &item.resource {
            Resource::Workspace(workspace) => Some((item.resource.reference(), &workspace.spec)),
            Resource::Preview(_) | Resource::WorkspaceType(_) | Resource::Tenant(_) => None,
        })
        .collect();
    let namespaces: BTreeSet<_> = workspaces.iter().map(|(reference, _)| reference.ns().to_owned()).collect();
    assert_eq!((workspaces.len(), namespaces.len()), (3, 2));
    assert!(workspaces.iter().any(|(_, spec)| !spec.services.is_empty()));
    assert!(workspaces.iter().any(|(_, spec)| spec.mounts.iter().any(|mount| mount.volume.is_some())));
    let tenant = items.iter().find_map(|item| match &item.resource {
        Resource::Tenant(tenant) if tenant.metadata.name == "default" => tenant.spec.quota.as_ref(),
        Resource::Workspace(_) | Resource::Preview(_) | Resource::WorkspaceType(_) | Resource::Tenant(_) => None,
    });
    assert_eq!(tenant.unwrap().max_workspaces, Some(2));
}

#[test]
fn every_example_is_good_and_says_what_it_shows() {
    let mut count = 0;
    for entry in fs::read_dir(repository("examples")).unwrap() {
        let folder = entry.unwrap().file_name().into_string().unwrap();
        let root = format!("examples/{folder}");
        stands_alone(&items(&root));
        let readme = fs::read_to_string(repository(&root).join("README.md")).unwrap();
        assert!(readme.starts_with("# ") && readme.contains(&format!("--specs {root}")), "{root}/README.md");
        count += 1;
    }
    assert!(count >= 8, "{count} examples");
}

/// The closed sets with the sentence of each of their values, as the schema has it.
fn table(title: &str, about: &str, schema: &schemars::Schema) -> String {
    let mut text = format!("\n## {title}\n\n{about}\n\n| {} | Meaning |\n|---|---|\n", title.trim_end_matches('s'));
    for value in schema.get("oneOf").unwrap().as_array().unwrap() {
        let meaning = value["description"].as_str().unwrap().replace('\n', " ");
        if meaning == "See the condition of the same name." {
            continue;
        }
        text.push_str(&format!("| `{}` | {meaning} |\n", value["const"].as_str().unwrap()));
    }
    text
}

#[test]
fn the_tables_of_conditions_and_reasons_are_fresh() {
    use dockmaster::resource::{ConditionType, Reason};
    let path = repository("docs/specs.md");
    let found = fs::read_to_string(&path).unwrap();
    let marker = found.lines().find(|line| line.starts_with("<!-- generated")).unwrap();
    let written = found.split(marker).next().unwrap();
    let conditions = "The types of `status.conditions`. All but `Ready` and `Reconciling` are there only while they are true.";
    let reasons = "Why a condition is as it is, for programs. A specific condition has the reason of its own name.";
    let wanted = format!(
        "{written}{marker}\n{}{}",
        table("Conditions", conditions, &schemars::schema_for!(ConditionType)),
        table("Reasons", reasons, &schemars::schema_for!(Reason))
    );
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, &wanted).unwrap();
    } else {
        assert!(found == wanted, "docs/specs.md is stale; make it anew with `UPDATE=1 cargo test --test specs`");
    }
}

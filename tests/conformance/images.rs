//! Images: references and ids, tags that move, and removals beside containers.

use serde_json::{Value, json};

use crate::Group;
use crate::target::{Case, at, encode, filters};

pub fn groups() -> Vec<Group> {
    vec![group!(imported), group!(tagged), group!(removal), group!(listed_images)]
}

impl Case {
    async fn tag(&self, image: &str, name: &str) -> u16 {
        self.post(&format!("/images/{}/tag?repo={}&tag=1", encode(image), self.name(name)), Value::Null).await.status
    }

    async fn untag(&self, image: &str, options: &str) -> crate::target::Reply {
        self.delete(&format!("/images/{}{options}", encode(image))).await
    }

    fn reference(&self, name: &str) -> String {
        format!("{}:1", self.name(name))
    }
}

async fn imported(t: Case) {
    let reference = t.reference("a");
    let id = t.import(&reference, &["LABEL a=b", "ENV X=y", "CMD [\"sleep\", \"600\"]", "ENTRYPOINT [\"/bin/busybox\"]", "WORKDIR /tmp"]).await;
    let image = t.get(&format!("/images/{reference}/json")).await;
    t.eq("import: an image of that reference", image.at("/RepoTags"), json!([reference]));
    t.holds("import: an id that is a digest", id.starts_with("sha256:") && id.len() == 71, &id);
    t.eq("image inspect: the id", image.text("/Id"), id.clone());
    t.eq("import: labels", image.at("/Config/Labels"), json!({"a": "b"}));
    t.holds("import: environment", image.at("/Config/Env").as_array().is_some_and(|env| env.contains(&json!("X=y"))), image.at("/Config/Env"));
    t.eq("import: command", image.at("/Config/Cmd"), json!(["sleep", "600"]));
    t.eq("import: entrypoint", image.at("/Config/Entrypoint"), json!(["/bin/busybox"]));
    t.eq("image inspect: system", image.text("/Os"), "linux");
    t.holds("image inspect: architecture", !image.text("/Architecture").is_empty(), image.at("/Architecture"));
    t.eq("image inspect: no digest of a registry", image.at("/RepoDigests"), json!([]));
    t.eq("image inspect: also by id", t.get(&format!("/images/{id}/json")).await.text("/Id"), id.clone());
    t.eq("image inspect: also by the beginning of the id", t.get(&format!("/images/{}/json", &id[7..19])).await.text("/Id"), id.clone());
    t.reply("image inspect of what is not there: 404", &t.get("/images/dockmaster-test/nothing:1/json").await, 404, "No such image: dockmaster-test/nothing:1");
    let plain = t.create("plain", json!({"Image": reference, "Cmd": null})).await;
    let plain = t.inspect(&plain).await;
    t.field("a container has its image's command", &plain, "/Config/Cmd", json!(["sleep", "600"]));
    t.field("a container has its image's entrypoint", &plain, "/Config/Entrypoint", json!(["/bin/busybox"]));
    t.field("a container has its image's folder", &plain, "/Config/WorkingDir", "/tmp");
    t.holds(
        "a container has its image's environment",
        at(&plain, "/Config/Env").as_array().is_some_and(|env| env.contains(&json!("X=y"))),
        &plain["Config"]["Env"],
    );
    t.field("a container of a reference: as it was asked for", &plain, "/Config/Image", reference.clone());
    t.field("a container of a reference: the image by id", &plain, "/Image", id.clone());
    let own = t.inspect(&t.create("own", json!({"Image": reference, "Entrypoint": [""], "Cmd": ["true"]})).await).await;
    t.field("an entrypoint of one empty word takes the image's away", &own, "/Config/Entrypoint", Value::Null);
    let empty = t.inspect(&t.create("empty", json!({"Image": reference, "Entrypoint": [], "Cmd": ["true"]})).await).await;
    t.field("an empty entrypoint takes the image's away too", &empty, "/Config/Entrypoint", json!([]));
    let empty = t.inspect(&t.create("empty-cmd", json!({"Image": reference, "Entrypoint": [], "Cmd": null})).await).await;
    t.field("an empty entrypoint keeps the image's command", &empty, "/Config/Cmd", json!(["sleep", "600"]));
    let word = t.try_create("word", json!({"Image": reference, "Entrypoint": [""], "Cmd": null})).await;
    t.reply("an entrypoint of one empty word drops the image's command: nothing is left", &word, 400, "o command specified");
    let gone = t.inspect(&t.create("gone", json!({"Image": reference, "Entrypoint": ["sleep"], "Cmd": null})).await).await;
    t.field("an entrypoint of one's own drops the image's command", &gone, "/Config/Cmd", Value::Null);
}

async fn tagged(t: Case) {
    let first = t.import(&t.reference("a"), &["LABEL v=1"]).await;
    let id = t.create("old", json!({"Image": t.reference("a"), "Cmd": ["true"]})).await;
    t.eq("tag: 201", t.tag(&first, "b").await, 201);
    let mut tags = [t.reference("a"), t.reference("b")];
    tags.sort();
    t.eq("tag: both references", t.get(&format!("/images/{first}/json")).await.at("/RepoTags"), json!(tags));
    t.eq("tag of what is not there: 404", t.tag("dockmaster-test/nothing:1", "c").await, 404);
    let second = t.import(&t.reference("a"), &["LABEL v=2"]).await;
    t.holds("import under a tag that exists: another image", first != second, (&first, &second));
    t.eq("a tag moves", t.get(&format!("/images/{}/json", t.reference("a"))).await.text("/Id"), second);
    t.eq("the image that had it keeps the others", t.get(&format!("/images/{first}/json")).await.at("/RepoTags"), json!([t.reference("b")]));
    let inspect = t.inspect(&id).await;
    t.field("a tag that moved changes no container", &inspect, "/Image", first.clone());
    t.field("a tag that moved: what was asked for stays written", &inspect, "/Config/Image", t.reference("a"));
    let listed = t.listed(&id).await;
    t.field("list: a tag that moved: the container's image by id", &listed, "/ImageID", first.clone());
    t.field("list: a tag that moved: the image is named by id", &listed, "/Image", first.clone());
    t.eq("list: by image finds the containers of the id", t.list(json!({"ancestor": [first], "name": [t.name("")]})).await.len(), 1);
}

async fn removal(t: Case) {
    let id = t.import(&t.reference("a"), &["LABEL own=removal"]).await;
    t.tag(&id, "b").await;
    t.eq("removal of one tag of two: only the tag", t.untag(&t.reference("b"), "").await.body, json!([{"Untagged": t.reference("b")}]));
    t.tag(&id, "b").await;
    t.reply("removal by id of what has two references: 409", &t.untag(&id, "").await, 409, "image is referenced in multiple repositories");
    t.untag(&t.reference("b"), "").await;
    let holder = t.create("holder", json!({"Image": id, "Cmd": ["sleep", "600"]})).await;
    t.reply("removal of an image that a stopped container has, by id: 409", &t.untag(&id, "").await, 409, "image is being used by stopped container");
    t.reply(
        "removal of the last tag of an image that a stopped container has: 409",
        &t.untag(&t.reference("a"), "").await,
        409,
        &format!("container {} is using its referenced image", &holder[..12]),
    );
    t.start(&holder).await;
    t.reply(
        "removal by force of an image that a running container has, by id: 409",
        &t.untag(&id, "?force=1").await,
        409,
        "image is being used by running container",
    );
    t.tag(&id, "b").await;
    t.eq("one tag of two goes although a container runs", t.untag(&t.reference("b"), "").await.status, 200);
    t.stop(&holder).await;
    let forced = t.untag(&t.reference("a"), "?force=1").await;
    t.eq("removal by force of the last tag, beside a stopped container: 200", forced.status, 200);
    t.field("a container whose image lost its name says its id", &t.inspect(&holder).await, "/Image", id.clone());
    t.eq("a container whose image lost its name starts", t.start(&holder).await.status, t.by(204, 204));
    t.remove(&holder).await;
    let gone = t.import(&t.reference("c"), &["LABEL own=gone"]).await;
    let reply = t.untag(&t.reference("c"), "").await;
    t.eq("removal of the last tag deletes the image", reply.body.as_array().map(|list| list.contains(&json!({"Deleted": gone}))), Some(true));
    t.reply("removal of what is gone: 404, for an image", &t.untag(&t.reference("c"), "").await, 404, "No such image");
    t.untag(&id, "?force=1").await;
}

async fn listed_images(t: Case) {
    let own = format!("own={}", t.name("x"));
    let first = t.import(&t.reference("a"), &[&format!("LABEL {own}")]).await;
    let found = async |given: Value| {
        let list = t.get(&format!("/images/json?{}", filters(given))).await;
        let mut ids: Vec<String> = list.body.as_array().into_iter().flatten().map(|image| image["Id"].as_str().unwrap_or_default().to_owned()).collect();
        ids.sort();
        ids
    };
    t.eq("images: by reference", found(json!({"reference": [t.reference("a")]})).await, vec![first.clone()]);
    t.eq("images: by a pattern", found(json!({"reference": [format!("{}*", t.name("a"))]})).await, vec![first.clone()]);
    t.eq("images: by label", found(json!({"label": [own]})).await, vec![first.clone()]);
    t.eq("images: by a reference that is not there", found(json!({"reference": ["dockmaster-test/nothing:1"]})).await, Vec::<String>::new());
    let listed = t.get(&format!("/images/json?{}", filters(json!({"reference": [t.reference("a")]})))).await;
    t.eq("images: a list has tags", listed.at("/0/RepoTags"), json!([t.reference("a")]));
    t.eq("images: a list has labels", listed.at("/0/Labels/own"), json!(t.name("x")));
    let second = t.import(&t.reference("a"), &["LABEL v=2", &format!("LABEL {own}")]).await;
    let dangling = t.get(&format!("/images/json?{}", filters(json!({"dangling": ["true"], "label": [own]})))).await;
    t.eq(
        "images: one whose tag moved away has none",
        (dangling.text("/0/Id"), dangling.at("/0/RepoTags")),
        (first.clone(), t.by(json!(["<none>:<none>"]), json!([]))),
    );
    t.reply("images: an unknown filter is refused", &t.get(&format!("/images/json?{}", filters(json!({"wish": ["x"]})))).await, 400, "nvalid filter 'wish'");
    let holder = t.create("holder", json!({"Image": first, "Cmd": ["true"]})).await;
    let prune = async || t.post(&format!("/images/prune?{}", filters(json!({"label": [own]}))), Value::Null).await.at("/ImagesDeleted");
    t.eq("images prune keeps what a container has", prune().await, Value::Null);
    t.remove(&holder).await;
    let deleted = prune().await;
    t.holds("images prune takes what has no tag", deleted.as_array().is_some_and(|list| list.contains(&json!({"Deleted": first}))), &deleted);
    t.eq("images prune keeps what has a tag", found(json!({"label": [own]})).await, vec![second]);
    t.delete(&format!("/images/{}", t.reference("a"))).await;
}

//! What people and the host do behind an operator's back; told to those who listen as the engine would tell it.

use std::collections::BTreeSet;

use super::Shared;
use super::http::Refused;
use super::lock;
use super::networks;
use super::state::{Engine, Status};

/// Somebody with the `docker` command, or the host itself. Containers are named by name or id.
pub struct Human<'a>(&'a Shared);

impl<'a> Human<'a> {
    pub(super) fn new(shared: &'a Shared) -> Self {
        Self(shared)
    }

    fn on<T>(&self, container: &str, act: impl FnOnce(&mut Engine, &str) -> T) -> Option<T> {
        self.0.change(|engine| {
            let id = engine.container_id(container)?;
            Some(act(engine, &id))
        })
    }

    /// `docker start`.
    pub fn start(&self, container: &str) -> Option<Result<(), Refused>> {
        self.on(container, Engine::start)
    }

    /// The engine was killed in the middle of a start, and is back: the container did not start, and its shim is left.
    pub fn strand(&self, container: &str) {
        self.stop(container);
        self.on(container, |engine, id| {
            if let Some(container) = engine.containers.get_mut(id) {
                container.stranded = true;
            }
        });
    }

    /// `docker stop`, done at once: what does not hear is killed.
    pub fn stop(&self, container: &str) {
        self.on(container, |engine, id| {
            if engine.containers[id].is_running() {
                let was = engine.containers[id].status;
                engine.stop(id, Some(0));
                if engine.containers.get(id).is_some_and(|container| container.is_running()) {
                    engine.signal(id, 9);
                }
                engine.tell_stopped(id, was);
            }
        });
    }

    /// `docker kill`.
    pub fn kill(&self, container: &str) {
        self.on(container, |engine, id| {
            if let Some(container) = engine.containers.get_mut(id) {
                container.stopped_by_hand = true;
            }
            engine.signal(id, 9);
        });
    }

    /// `docker rm --force`, with `--volumes` or without.
    pub fn remove(&self, container: &str, with_volumes: bool) {
        self.on(container, |engine, id| engine.remove(id, with_volumes));
    }

    /// `docker pause`.
    pub fn pause(&self, container: &str) {
        self.on(container, |engine, id| {
            if engine.containers[id].status == Status::Running {
                engine.freeze(id, true);
            }
        });
    }

    /// `docker unpause`.
    pub fn unpause(&self, container: &str) {
        self.on(container, |engine, id| {
            if engine.containers[id].status == Status::Paused {
                engine.freeze(id, false);
            }
        });
    }

    /// `docker rename`.
    pub fn rename(&self, container: &str, name: &str) -> Option<Result<(), Refused>> {
        self.on(container, |engine, id| engine.rename(id, name))
    }

    /// `docker network disconnect --force`.
    pub fn disconnect(&self, network: &str, container: &str) -> Option<Result<(), Refused>> {
        self.on(container, |engine, id| {
            let network = engine.find_network(network)?;
            engine.disconnect(id, &network)
        })
    }

    /// `docker network rm`; whether it could be removed.
    pub fn remove_network(&self, network: &str) -> bool {
        self.0.change(|engine| {
            let Ok(id) = engine.find_network(network) else { return false };
            let free = networks::is_free(engine, &id);
            if free {
                engine.remove_network(&id);
            }
            free
        })
    }

    /// `docker volume rm --force`; whether it could be removed.
    pub fn remove_volume(&self, volume: &str) -> bool {
        self.0.change(|engine| {
            let free = engine.volumes.contains_key(volume) && engine.volume_users(volume).is_empty();
            if free {
                engine.volumes.remove(volume);
                engine.tell_volume(volume, "destroy");
            }
            free
        })
    }

    /// `docker rmi --force`.
    pub fn remove_image(&self, image: &str) {
        self.0.change(|engine| {
            if let Ok(id) = engine.find_image(image) {
                engine.tell_image(&id, "delete", &id.clone());
                engine.images.remove(&id);
            }
        });
    }

    /// `docker system prune --all --force`: stopped containers, unused networks and images.
    pub fn prune(&self) {
        self.0.change(|engine| {
            let stopped: Vec<String> = engine.containers.values().filter(|container| !container.is_running()).map(|container| container.id.clone()).collect();
            for id in stopped {
                engine.remove(&id, false);
            }
            for id in networks::unused(engine) {
                engine.remove_network(&id);
            }
            let used: BTreeSet<String> = engine.containers.values().map(|container| container.image_id.clone()).collect();
            let unused: Vec<String> = engine.images.keys().filter(|id| !used.contains(*id)).cloned().collect();
            for id in unused {
                engine.tell_image(&id, "delete", &id.clone());
                engine.images.remove(&id);
            }
        });
    }

    /// `docker volume prune` of an old client: every volume that no container names.
    pub fn prune_volumes(&self) {
        self.0.change(|engine| {
            let unused: Vec<String> = engine.volumes.keys().filter(|name| engine.volume_users(name).is_empty()).cloned().collect();
            for name in unused {
                engine.volumes.remove(&name);
                engine.tell_volume(&name, "destroy");
            }
        });
    }

    /// The main process ends by itself.
    pub fn exit(&self, container: &str, code: i64) {
        self.on(container, |engine, id| engine.ended(id, code, false));
    }

    /// The kernel kills the main process for its memory.
    pub fn out_of_memory(&self, container: &str) {
        self.on(container, |engine, id| engine.ended(id, 137, true));
    }

    /// Its health test says so from now on, beginning now.
    pub fn health(&self, container: &str, healthy: bool) {
        self.on(container, |engine, id| {
            let name = engine.containers[id].name.clone();
            engine.behaviours.entry(name).or_default().health = Some(healthy);
            let word = if healthy { "healthy" } else { "unhealthy" };
            let Some(health) = engine.containers.get_mut(id).and_then(|container| container.health.as_mut()) else { return };
            if health.status != word {
                word.clone_into(&mut health.status);
                engine.tell_container(id, format!("health_status: {word}"), &[]);
            }
        });
    }

    /// The container sends so many bytes.
    pub fn send(&self, container: &str, bytes: u64) {
        self.on(container, |engine, id| {
            if let Some(container) = engine.containers.get_mut(id) {
                container.traffic.0 += bytes;
            }
        });
    }

    /// Puts an image on the engine, as `docker load` does; its id.
    pub fn add_image(&self, reference: &str, remote: &super::state::Remote) -> String {
        self.0.change(|engine| engine.add_image(reference, remote))
    }

    /// Anything else, told to those who wait for a change.
    pub fn change<T>(&self, act: impl FnOnce(&mut Engine) -> T) -> T {
        self.0.change(act)
    }

    /// The engine goes down in order, or at once: every connection breaks, and none is taken until it is [up](Self::up).
    ///
    /// In order, its containers end with it. At once, they go on until it is up again, which then stops them as if by hand.
    pub fn down(&self, in_order: bool) {
        self.0.change(|engine| {
            if in_order {
                stop_all(engine, false);
            }
        });
        *lock(&self.0.answers) = false;
        self.0.cut.send();
    }

    /// The engine is there again, with no events of before, and with its containers as their restart policies say.
    pub fn up(&self) {
        self.0.change(|engine| {
            engine.events.clear();
            engine.held = None;
            stop_all(engine, true);
            let ids: Vec<String> = engine.containers.keys().cloned().collect();
            for id in ids {
                let container = &engine.containers[&id];
                let (policy, _) = container.restart_policy();
                let again = match policy {
                    "always" => container.started.is_some(),
                    "unless-stopped" => container.started.is_some() && !container.stopped_by_hand,
                    "on-failure" => container.was_running && container.exit_code != 0,
                    _ => false,
                };
                let idle = !container.is_running();
                if let Some(container) = engine.containers.get_mut(&id) {
                    container.was_running = false;
                }
                if again && idle {
                    // A failure is in the container's state.
                    let _ = engine.start(&id);
                } else if idle && engine.containers[&id].host_flag("AutoRemove") && engine.containers[&id].started.is_some() {
                    engine.take_away(&id, true);
                }
            }
        });
        *lock(&self.0.answers) = true;
        self.0.resume();
    }

    /// The engine stands still, as a process that was sent SIGSTOP: connections are taken, and nothing is answered until it [goes on](Self::resume).
    pub fn suspend(&self) {
        self.0.suspend();
    }

    /// The engine goes on, and serves what was sent to it meanwhile, also of those who gave up since. Only a start of the newer engine needs a client
    /// that still waits.
    pub fn resume(&self) {
        self.0.resume();
    }

    /// Breaks every connection; new ones are taken.
    pub fn cut(&self) {
        self.0.cut.send();
    }
}

/// The engine stops what runs; `by_hand` is how it remembers it.
fn stop_all(engine: &mut Engine, by_hand: bool) {
    let running: Vec<String> = engine.containers.values().filter(|container| container.is_running()).map(|container| container.id.clone()).collect();
    for id in running {
        let by_hand = by_hand || engine.containers[&id].stopped_by_hand;
        let Some(container) = engine.containers.get_mut(&id) else { continue };
        container.stopped_by_hand = true;
        let code = container.process.as_mut().and_then(|process| process.hear(15)).unwrap_or(137);
        engine.ended(&id, code, false);
        if let Some(container) = engine.containers.get_mut(&id) {
            container.stopped_by_hand = by_hand;
            container.was_running = true;
        }
    }
}

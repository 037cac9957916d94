//! The programs that containers know: those of a small busybox, the shell's own, and the helper's. Any other program of an image runs
//! until it is stopped.

use std::time::Duration;

use bytes::Bytes;

use super::process::{Process, Surroundings, signal};

/// What a program does to its process.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// It ended.
    Done(i64),
    /// The shell around it ends.
    Exit(i64),
    /// It waits.
    Sleep(Duration),
    /// It runs until it is stopped.
    Forever,
    /// The shell waits for what is in the background.
    Background,
    /// It copies its input to its output.
    Input,
    /// It runs that script.
    Script(String),
    /// It runs what comes in.
    Talk,
    /// The loop around it ends.
    Break,
    /// It takes more memory than it may.
    Out,
}

/// Runs a program as far as it goes at once.
pub fn run(process: &mut Process, argv: &[String], around: &mut Surroundings<'_>) -> Effect {
    let Some((program, arguments)) = argv.split_first() else { return Effect::Done(0) };
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let Some(effect) = builtin(process, program, &arguments, around) {
        return effect;
    }
    if !around.files.has_program(program) {
        complain(around, &format!("sh: {program}: not found"));
        return Effect::Done(127);
    }
    let name = program.rsplit('/').next().unwrap_or(program);
    if name == "busybox" && !arguments.is_empty() {
        return run(process, &argv[1..], around);
    }
    match (name, arguments.as_slice()) {
        ("dockmaster", ["helper", rest @ ..]) => helper(process, rest, around),
        _ => applet(process, name, &arguments, around),
    }
}

fn say(around: &mut Surroundings<'_>, text: impl Into<Bytes>) {
    around.output.push((false, text.into()));
}

fn complain(around: &mut Surroundings<'_>, text: &str) {
    around.output.push((true, Bytes::from(format!("{text}\n"))));
}

/// What a shell does itself.
fn builtin(process: &mut Process, name: &str, arguments: &[&str], around: &mut Surroundings<'_>) -> Option<Effect> {
    let code = |text: Option<&&str>, otherwise: i64| text.and_then(|text| text.parse().ok()).unwrap_or(otherwise);
    Some(match name {
        ":" => Effect::Done(0),
        "exit" => Effect::Exit(code(arguments.first(), process.status) & 255),
        "break" => Effect::Break,
        "cd" => {
            let path = process.path(arguments.first().copied().unwrap_or("/"));
            if !around.files.is_directory(&path) {
                complain(around, &format!("sh: cd: can't cd to {path}: No such file or directory"));
                return Some(Effect::Done(2));
            }
            process.variables.insert("PWD".to_owned(), path);
            Effect::Done(0)
        }
        "set" | "shift" | "umask" => Effect::Done(0),
        "export" => {
            for (name, value) in arguments.iter().filter_map(|pair| pair.split_once('=')) {
                process.variables.insert(name.to_owned(), value.to_owned());
            }
            Effect::Done(0)
        }
        "trap" => {
            let [handler, signals @ ..] = arguments else { return Some(Effect::Done(0)) };
            for number in signals.iter().filter_map(|name| signal(name)) {
                if *handler == "-" {
                    process.traps.remove(&number)
                } else {
                    process.traps.insert(number, (*handler).to_owned())
                };
            }
            Effect::Done(0)
        }
        "wait" => Effect::Background,
        "exec" if !arguments.is_empty() => {
            process.frames.clear();
            process.traps.clear();
            let argv: Vec<String> = arguments.iter().map(|word| (*word).to_owned()).collect();
            process.argv = std::sync::Arc::new(argv.clone());
            run(process, &argv, around)
        }
        _ => return None,
    })
}

fn applet(process: &mut Process, name: &str, arguments: &[&str], around: &mut Surroundings<'_>) -> Effect {
    let plain: Vec<&str> = arguments.iter().copied().filter(|word| !word.starts_with('-')).collect();
    match name {
        "true" => Effect::Done(0),
        "false" => Effect::Done(1),
        "sleep" => arguments.first().and_then(|text| seconds(text)).map_or(Effect::Done(1), Effect::Sleep),
        "sh" | "ash" | "bash" => match arguments {
            [flag, script, ..] if flag.starts_with('-') && flag.ends_with('c') => Effect::Script((*script).to_owned()),
            _ => Effect::Talk,
        },
        "echo" => {
            let (end, words) = match arguments {
                ["-n", words @ ..] => ("", words),
                words => ("\n", words),
            };
            say(around, format!("{}{end}", words.join(" ")));
            Effect::Done(0)
        }
        "printf" => {
            let [format, values @ ..] = arguments else { return Effect::Done(1) };
            let mut values = values.iter();
            let mut text = format.replace("\\n", "\n").replace("\\t", "\t");
            while let Some(at) = text.find("%s").or_else(|| text.find("%d")) {
                text.replace_range(at..at + 2, values.next().copied().unwrap_or_default());
            }
            say(around, text);
            Effect::Done(0)
        }
        "cat" if plain.is_empty() => Effect::Input,
        "cat" => each(process, &plain, around, |around, path, shown| match around.files.read(path) {
            Ok(content) => {
                say(around, content);
                0
            }
            Err(problem) => {
                complain(around, &format!("cat: can't open '{shown}': {problem}"));
                1
            }
        }),
        "touch" => each(process, &plain, around, |around, path, shown| {
            let made = if around.files.exists(path) {
                around.files.read(path).and_then(|content| around.files.write(path, content))
            } else {
                around.files.write(path, Bytes::new())
            };
            failed(around, "touch", shown, made)
        }),
        "rm" => {
            let force = arguments.iter().any(|word| word.starts_with('-') && word.contains('f'));
            each(process, &plain, around, |around, path, shown| match around.files.remove(path) {
                Err(problem) if !force => failed(around, "rm: can't remove", shown, Err(problem)),
                Ok(()) | Err(_) => 0,
            })
        }
        "mkdir" => each(process, &plain, around, |around, path, shown| {
            let made = around.files.make_directory(path);
            failed(around, "mkdir: can't create directory", shown, made)
        }),
        "chmod" | "chown" | "sync" => Effect::Done(0),
        "cp" | "mv" => {
            let [from, to] = plain.as_slice() else { return Effect::Done(1) };
            let (source, mut target) = (process.path(from), process.path(to));
            if around.files.is_directory(&target) {
                target = format!("{}/{}", target.trim_end_matches('/'), source.rsplit('/').next().unwrap_or_default());
            }
            let copied = around.files.read(&source).and_then(|content| around.files.write(&target, content));
            let moved = if name == "mv" { copied.and_then(|()| around.files.remove(&source)) } else { copied };
            Effect::Done(failed(around, name, from, moved))
        }
        "ls" => {
            let path = process.path(plain.first().copied().unwrap_or("."));
            let path = path.trim_end_matches("/.").to_owned();
            let names = if around.files.is_directory(&path) {
                around.files.list(&path)
            } else if around.files.exists(&path) {
                vec![plain.first().copied().unwrap_or_default().to_owned()]
            } else {
                return Effect::Done(failed(around, "ls", &path, Err("No such file or directory")));
            };
            say(around, names.into_iter().map(|name| format!("{name}\n")).collect::<String>());
            Effect::Done(0)
        }
        "test" | "[" => Effect::Done(i64::from(!test(process, arguments, around))),
        "pwd" => {
            let directory = process.path(".").trim_end_matches("/.").to_owned();
            say(around, format!("{}\n", if directory.is_empty() { "/" } else { &directory }));
            Effect::Done(0)
        }
        "id" => {
            let (user, group) = around.user.split_once(':').unwrap_or((&around.user, "0"));
            let text = match arguments.first() {
                Some(&"-u") => user.to_owned(),
                Some(&"-g") => group.to_owned(),
                Some(_) | None => format!("uid={user} gid={group}"),
            };
            say(around, format!("{text}\n"));
            Effect::Done(0)
        }
        "hostname" => {
            let name = around.host_name.clone();
            say(around, format!("{name}\n"));
            Effect::Done(0)
        }
        "env" => {
            let text: String = process.variables.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
            say(around, text);
            Effect::Done(0)
        }
        "seq" => {
            let number = |text: &&str| text.parse::<i64>().unwrap_or_default();
            let (first, last) = match plain.as_slice() {
                [last] => (1, number(last)),
                [first, last, ..] => (number(first), number(last)),
                [] => return Effect::Done(1),
            };
            say(around, (first..=last).map(|number| format!("{number}\n")).collect::<String>());
            Effect::Done(0)
        }
        "yes" => Effect::Forever,
        "head" | "tail" if around.memory > 0 && plain.first() == Some(&"/dev/zero") => Effect::Out,
        "tail" if arguments.contains(&"-f") => Effect::Forever,
        "head" | "tail" | "grep" | "wc" | "sort" => text(process, name, arguments, around),
        "dd" => {
            let value = |key: &str| arguments.iter().find_map(|word| word.strip_prefix(key)).and_then(|text| text.parse::<usize>().ok());
            let size = value("bs=").unwrap_or(512) * value("count=").unwrap_or(1);
            match arguments.iter().find_map(|word| word.strip_prefix("of=")) {
                Some(path) => {
                    let path = process.path(path);
                    let written = around.files.write(&path, Bytes::from(vec![0; size]));
                    Effect::Done(failed(around, "dd: can't open", &path, written))
                }
                None => {
                    say(around, vec![0; size]);
                    Effect::Done(0)
                }
            }
        }
        "stty" if arguments == ["size"] => match process.terminal {
            Some((rows, columns)) => {
                say(around, format!("{rows} {columns}\r\n"));
                Effect::Done(0)
            }
            None => {
                complain(around, "stty: standard input: Not a tty");
                Effect::Done(1)
            }
        },
        "stat" => {
            let path = process.path(plain.last().copied().unwrap_or("/"));
            if !around.files.exists(&path) {
                return Effect::Done(failed(around, "stat: can't stat", &path, Err("No such file or directory")));
            }
            let mode = around.files.memory(&path).and_then(|options| options.split(',').find_map(|option| option.strip_prefix("mode=")));
            let mode = mode.map_or("755", |mode| mode.trim_start_matches('0')).to_owned();
            say(around, format!("{mode}\n"));
            Effect::Done(0)
        }
        "df" => {
            let path = process.path(plain.last().copied().unwrap_or("/"));
            let size = around.files.memory(&path).and_then(|options| options.split(',').find_map(|option| option.strip_prefix("size=")));
            let blocks = size.and_then(|size| size.parse::<u64>().ok()).map_or(10_000_000, |size| size / 1024);
            say(around, format!("Filesystem           1K-blocks      Used Available Use% Mounted on\ntmpfs {blocks} 0 {blocks} 0% {path}\n"));
            Effect::Done(0)
        }
        "nslookup" => {
            let name = plain.first().copied().unwrap_or_default().trim_end_matches('.').to_owned();
            match around.neighbours.get(&name).cloned() {
                Some(ip) => {
                    say(around, format!("Name:\t{name}\nAddress: {ip}\n"));
                    Effect::Done(0)
                }
                None => {
                    complain(around, &format!("** server can't find {name}: NXDOMAIN"));
                    Effect::Done(1)
                }
            }
        }
        "ping" | "wget" | "curl" => {
            let target = plain.iter().rev().find(|word| word.chars().any(char::is_alphabetic)).copied().unwrap_or_default();
            let host = target.trim_start_matches("http://").split(['/', ':']).next().unwrap_or_default();
            let there = matches!(host, "localhost" | "127.0.0.1") || around.neighbours.contains_key(host.trim_end_matches('.'));
            around.sent += 100;
            Effect::Done(i64::from(!there))
        }
        "nc" if arguments.contains(&"-l") => Effect::Forever,
        "nc" => {
            let bytes = std::mem::take(&mut process.stdin.buffer).len() as u64;
            let host = plain.iter().find(|word| around.neighbours.contains_key(word.trim_end_matches('.')));
            if host.is_none() {
                return Effect::Done(1);
            }
            around.sent += bytes + 60;
            Effect::Done(0)
        }
        "kill" => {
            let target = plain.last().copied().unwrap_or_default();
            let number = arguments.first().and_then(|word| word.strip_prefix('-')).and_then(signal).unwrap_or(15);
            // The first process does not hear a KILL from within.
            if target == "1" && process.first && number != 9 && process.traps.contains_key(&number) {
                process.pending.push(number);
            }
            Effect::Done(0)
        }
        _ => Effect::Forever,
    }
}

/// What is said where a file cannot be had; the code.
fn failed(around: &mut Surroundings<'_>, what: &str, path: &str, result: Result<(), &'static str>) -> i64 {
    match result {
        Ok(()) => 0,
        Err(problem) => {
            complain(around, &format!("{what}: {path}: {problem}"));
            1
        }
    }
}

fn each(process: &Process, paths: &[&str], around: &mut Surroundings<'_>, mut act: impl FnMut(&mut Surroundings<'_>, &str, &str) -> i64) -> Effect {
    let mut worst = 0;
    for shown in paths {
        worst = act(around, &process.path(shown), shown).max(worst);
    }
    Effect::Done(worst)
}

/// `2`, `0.5`, `1m`.
fn seconds(text: &str) -> Option<Duration> {
    let (number, unit) = match text.chars().last()? {
        's' => (&text[..text.len() - 1], 1.0),
        'm' => (&text[..text.len() - 1], 60.0),
        'h' => (&text[..text.len() - 1], 3600.0),
        'd' => (&text[..text.len() - 1], 86_400.0),
        _ => (text, 1.0),
    };
    if text == "infinity" {
        return Some(Duration::from_secs(1 << 40));
    }
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * unit).ok()
}

fn test(process: &Process, arguments: &[&str], around: &Surroundings<'_>) -> bool {
    let arguments = match arguments {
        [inner @ .., "]"] => inner,
        whole => whole,
    };
    let path = |path: &str| process.path(path);
    match arguments {
        ["!", rest @ ..] => !test(process, rest, around),
        ["-e", file] => around.files.exists(&path(file)),
        ["-f", file] => around.files.read(&path(file)).is_ok(),
        ["-d", file] => around.files.is_directory(&path(file)),
        ["-s", file] => around.files.read(&path(file)).is_ok_and(|content| !content.is_empty()),
        ["-r" | "-w" | "-x", file] => around.files.exists(&path(file)),
        ["-n", text] => !text.is_empty(),
        ["-z", text] => text.is_empty(),
        [left, "=" | "==", right] => left == right,
        [left, "!=", right] => left != right,
        [left, operator, right] => {
            let (Ok(left), Ok(right)) = (left.parse::<i64>(), right.parse::<i64>()) else { return false };
            match *operator {
                "-eq" => left == right,
                "-ne" => left != right,
                "-lt" => left < right,
                "-le" => left <= right,
                "-gt" => left > right,
                "-ge" => left >= right,
                _ => false,
            }
        }
        [text] => !text.is_empty(),
        _ => false,
    }
}

/// Filters of lines.
fn text(process: &mut Process, name: &str, arguments: &[&str], around: &mut Surroundings<'_>) -> Effect {
    let mut count = 10;
    let mut words = Vec::new();
    let mut at = 0;
    while let Some(word) = arguments.get(at) {
        match word.strip_prefix('-') {
            Some("n" | "c") => {
                at += 1;
                count = arguments.get(at).and_then(|text| text.parse().ok()).unwrap_or(count);
            }
            Some(rest) => count = rest.trim_start_matches(['n', 'c']).parse().unwrap_or(count),
            None => words.push(*word),
        }
        at += 1;
    }
    let pattern = if name == "grep" && !words.is_empty() { words.remove(0) } else { "" };
    let content = match words.first() {
        Some(path) => match around.files.read(&process.path(path)) {
            Ok(content) => content.to_vec(),
            Err(problem) => return Effect::Done(failed(around, name, path, Err(problem))),
        },
        None => std::mem::take(&mut process.stdin.buffer),
    };
    let content = String::from_utf8_lossy(&content).into_owned();
    let lines: Vec<&str> = content.lines().collect();
    let kept: Vec<&str> = match name {
        "head" => lines.into_iter().take(count).collect(),
        "tail" => lines[lines.len().saturating_sub(count)..].to_vec(),
        "grep" => lines.into_iter().filter(|line| line.contains(pattern)).collect(),
        "wc" => {
            let number = if arguments.contains(&"-c") { content.len() } else { lines.len() };
            say(around, format!("{number}\n"));
            return Effect::Done(0);
        }
        _ => {
            let mut lines = lines;
            lines.sort_unstable();
            lines
        }
    };
    let found = !kept.is_empty();
    if !(name == "grep" && arguments.contains(&"-q")) {
        say(around, kept.iter().map(|line| format!("{line}\n")).collect::<String>());
    }
    Effect::Done(i64::from(name == "grep" && !found))
}

/// The program inside the helper image.
fn helper(process: &Process, arguments: &[&str], around: &mut Surroundings<'_>) -> Effect {
    match arguments {
        ["static", rest @ ..] => {
            let value = |name: &str| rest.iter().position(|word| *word == name).and_then(|at| rest.get(at + 1)).copied().unwrap_or_default();
            say(around, format!("serving {} on 0.0.0.0:{}\n", value("--root"), value("--port")));
            Effect::Forever
        }
        ["lock"] => {
            say(around, "locked\n");
            Effect::Input
        }
        ["copy", rest @ ..] => {
            let paths: Vec<&str> = rest.iter().copied().filter(|word| *word != "--delta").collect();
            let (mut copied, mut unchanged, mut removed, mut bytes) = (1, 0, 0, 0);
            for pair in paths.chunks(2) {
                let [from, to] = pair else { return Effect::Done(2) };
                let volumes = (around.files.volume_at(&process.path(from)), around.files.volume_at(&process.path(to)));
                let (Some(from), Some(to)) = volumes else {
                    complain(around, &format!("{from}: No such file or directory (os error 2)"));
                    return Effect::Done(1);
                };
                let source = around.files.volumes().get(&from).map(|volume| volume.files.clone()).unwrap_or_default();
                if let Some(target) = around.files.volumes().get_mut(&to) {
                    removed += target.files.keys().filter(|name| !source.contains_key(*name)).count();
                    unchanged += source.iter().filter(|(name, content)| target.files.get(*name) == Some(content)).count();
                    let new = source.iter().filter(|(name, content)| target.files.get(*name) != Some(content));
                    let (count, size) = new.fold((0, 0), |(count, size), (_, content)| (count + 1, size + content.len()));
                    copied += count;
                    bytes += size;
                    target.files = source;
                }
            }
            say(around, format!("copied {copied} ({bytes} bytes), unchanged {unchanged}, removed {removed}, failed 0\n"));
            Effect::Done(0)
        }
        ["probe", _] => Effect::Done(0),
        _ => Effect::Done(2),
    }
}

//! What the suites need: Debian's packages, jars from Maven Central, kazoo, and our own binary.
//! Each is fetched once, and again when the file that lists it changes.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};

use crate::arguments::OLDER_APACHES;
use crate::context::{Context, Failure, clear, prepare, read, say};

const KAZOO_VERSION: &str = "2.11.0";

/// A command or a file, and Debian's package that has it.
type Need = (&'static str, &'static str);

const JAVA: [Need; 2] = [("javac", "default-jdk-headless"), ("mvn", "maven")];

const C: [Need; 4] = [
    ("gcc", "gcc"),
    ("/usr/include/stdio.h", "libc6-dev"),
    ("/usr/include/zookeeper/zookeeper.h", "libzookeeper-mt-dev"),
    ("/usr/lib/zookeeper/bin/cli_mt", "zookeeper-bin"),
];

/// Everything that any suite needs.
pub fn everything(context: &Context) -> Result<(), Failure> {
    java(context)?;
    older_apaches(context)?;
    kafka(context)?;
    c()
}

/// Apache ZooKeeper 3.9; the file with its class path.
pub fn apache(context: &Context) -> Result<PathBuf, Failure> {
    install(&JAVA)?;
    let class_path = context.cache.join("apache/classpath");
    let is_there = fs::metadata(&class_path).is_ok_and(|file| file.len() > 0);
    if !is_there {
        // Somebody removed it, so the stamp is no longer true. Without a stamp there is none to
        // remove.
        let _ = fs::remove_file(context.cache.join("apache.stamp"));
    }
    let pom = context.foreign.join("apache/pom.xml");
    once(context, "apache", &pom, || jars(context, "apache", "apache", None))?;
    Ok(class_path)
}

/// The last release of each older line.
pub fn older_apaches(context: &Context) -> Result<(), Failure> {
    install(&JAVA)?;
    let pom = context.foreign.join("apache-data/pom.xml");
    for version in OLDER_APACHES {
        let name = format!("apache-{version}");
        let set = format!("-Dzookeeper.version={version}");
        once(context, &name, &pom, || jars(context, &name, "apache-data", Some(&set)))?;
    }
    Ok(())
}

/// Apache's Java client, Curator and JUnit.
pub fn java(context: &Context) -> Result<(), Failure> {
    apache(context)?;
    let pom = context.foreign.join("java/pom.xml");
    once(context, "java", &pom, || jars(context, "java", "java", None))
}

/// kazoo with its tests, and a Python with what they need.
pub fn kazoo(context: &Context) -> Result<(), Failure> {
    let mut probe = Command::new("python3");
    probe.args(["-c", "import ensurepip, venv"]).stdout(Stdio::null()).stderr(Stdio::null());
    if !probe.status().is_ok_and(|status| status.success()) {
        install_packages(&["python3-venv"])?;
    }
    let wanted = context.foreign.join("kazoo/requirements.txt");
    once(context, "kazoo", &wanted, || fetch_kazoo(context, &wanted))
}

/// The Kafka brokers and what drives them.
pub fn kafka(context: &Context) -> Result<(), Failure> {
    kazoo(context)?;
    install(&JAVA)?;
    let pom = context.foreign.join("kafka/pom.xml");
    once(context, "kafka", &pom, || jars(context, "kafka", "kafka", None))?;
    let wanted = context.foreign.join("kafka/requirements.txt");
    once(context, "kafka-python", &wanted, || {
        let mut pip = Command::new(context.cache.join("venv/bin/pip"));
        prepare(pip.args(["install", "-q", "-r"]).arg(&wanted))
    })
}

/// The C client and its shell.
pub fn c() -> Result<(), Failure> {
    install(&C)
}

/// The binary under test, or Apache in its place.
pub fn server(context: &Context) -> Result<(), Failure> {
    match context.arguments.server.as_str() {
        "ringkeeper" => {
            let mut cargo = context.command("cargo");
            prepare(cargo.args(["build", "--release", "--quiet"]))
        }
        "apache" => apache(context).map(drop),
        _ => older_apaches(context),
    }
}

/// Compiles a folder of `tests/foreign/java` into `.cache/java`, unless it did so before.
pub fn compile_java(context: &Context, folder: &str, class_path: &str) -> Result<(), Failure> {
    let sources = context.foreign.join("java").join(folder);
    once(context, &format!("java-{folder}"), &sources, || {
        let classes = context.cache.join("java").join(folder);
        clear(&classes)?;
        let files = files(&sources)?.into_iter();
        let java = files.filter(|file| file.extension().is_some_and(|ending| ending == "java"));
        let mut javac = Command::new("javac");
        javac.args(["-nowarn", "-Xlint:none", "-cp", class_path, "-d"]).arg(&classes);
        prepare(javac.args(java))
    })
}

/// Installs the packages of programs that are missing.
fn install(needs: &[Need]) -> Result<(), Failure> {
    let is_missing = |need: &&Need| !Path::new(need.0).exists() && !is_command(need.0);
    let missing: Vec<&str> = needs.iter().filter(is_missing).map(|need| need.1).collect();
    if missing.is_empty() { Ok(()) } else { install_packages(&missing) }
}

fn is_command(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(name).is_file())
}

fn install_packages(packages: &[&str]) -> Result<(), Failure> {
    say(format!("installing {}", packages.join(" ")));
    let user = Command::new("id").arg("-u").output().map_err(|e| format!("id: {e}"))?;
    let apt_get = |arguments: &[&str]| {
        let mut words = vec!["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"];
        if user.stdout != b"0\n" {
            words.insert(0, "sudo");
        }
        // A mirror may fail once, and the machine may be installing something itself.
        words.extend(["-o", "Acquire::Retries=5", "-o", "DPkg::Lock::Timeout=600"]);
        prepare(Command::new(words[0]).args(&words[1..]).args(arguments))
    };
    apt_get(&["update", "-qq"])?;
    let install = ["install", "-y", "-qq", "--no-install-recommends"];
    apt_get(&[&install[..], packages].concat())
}

/// Does `work` unless it succeeded before with the same content of `input`, a file or a folder.
/// A second run that wants the same waits for the first.
fn once(
    context: &Context,
    name: &str,
    input: &Path,
    work: impl FnOnce() -> Result<(), Failure>,
) -> Result<(), Failure> {
    let stamp = context.cache.join(format!("{name}.stamp"));
    let say = |e| format!("{}: {e}", stamp.display());
    fs::create_dir_all(&context.cache).map_err(say)?;
    let lock = File::create(stamp.with_extension("stamp.lock")).map_err(say)?;
    lock.lock().map_err(say)?;
    let sum = sum(input)?;
    if fs::read_to_string(&stamp).is_ok_and(|found| found == sum) {
        return Ok(());
    }
    work()?;
    fs::write(&stamp, sum).map_err(say)
}

/// What `sha256sum` prints of all files one after the other.
fn sum(input: &Path) -> Result<String, Failure> {
    let mut hash = Sha256::new();
    for file in files(input)? {
        hash.update(fs::read(&file).map_err(|e| format!("{}: {e}", file.display()))?);
    }
    let digits: Vec<String> = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{}  -\n", digits.concat()))
}

/// The file itself, or the files below the folder, sorted.
fn files(input: &Path) -> Result<Vec<PathBuf>, Failure> {
    if !input.is_dir() {
        return Ok(vec![input.to_owned()]);
    }
    let say = |e| format!("{}: {e}", input.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(input).map_err(say)? {
        found.extend(files(&entry.map_err(say)?.path())?);
    }
    found.sort();
    Ok(found)
}

/// The jars that `tests/foreign/<folder>/pom.xml` lists, into `.cache/<name>`.
fn jars(context: &Context, name: &str, folder: &str, set: Option<&str>) -> Result<(), Failure> {
    say(format!("fetching the jars of {name}"));
    let home = context.cache.join(name);
    let lib = home.join("lib");
    clear(&lib)?;
    let mut maven = Command::new("mvn");
    maven.args(["-q", "-B", "-f"]).arg(context.foreign.join(folder).join("pom.xml"));
    maven.arg("dependency:copy-dependencies").args(set).arg("-DincludeScope=runtime");
    prepare(maven.arg(format!("-DoutputDirectory={}", lib.display())))?;
    let is_jar = |file: &PathBuf| file.extension().is_some_and(|ending| ending == "jar");
    let jars = files(&lib)?.into_iter().filter(is_jar);
    let jars: Vec<String> = jars.map(|jar| jar.display().to_string()).collect();
    if jars.is_empty() {
        return Err(format!("no jars in {}", lib.display()));
    }
    let class_path = home.join("classpath");
    let written = fs::write(&class_path, format!("{}\n", jars.join(":")));
    written.map_err(|e| format!("{}: {e}", class_path.display()))
}

fn fetch_kazoo(context: &Context, wanted: &Path) -> Result<(), Failure> {
    say(format!("fetching kazoo {KAZOO_VERSION}"));
    let (cache, venv) = (&context.cache, context.cache.join("venv"));
    let home = cache.join("kazoo");
    clear(&home)?;
    prepare(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    let pip = venv.join("bin/pip");
    prepare(Command::new(&pip).args(["install", "-q", "-r"]).arg(wanted))?;
    let mut download = Command::new(&pip);
    download.args(["download", "-q", "--no-deps", "--no-binary", "kazoo", "-d"]).arg(cache);
    prepare(download.arg(format!("kazoo=={KAZOO_VERSION}")))?;
    let archive = cache.join(format!("kazoo-{KAZOO_VERSION}.tar.gz"));
    let mut tar = Command::new("tar");
    tar.arg("xzf").arg(archive).arg("-C").arg(&home).arg("--strip-components=1");
    prepare(&mut tar)
}

/// What Java finds first: Apache's jars, since Curator and JUnit would bring others of the same.
pub fn java_class_path(context: &Context) -> Result<String, Failure> {
    let of = |name: &str| read(&context.cache.join(name).join("classpath"));
    Ok(format!("{}:{}", of("apache")?.trim_end(), of("java")?.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_is_that_of_sha256sum() {
        let directory = tempfile::tempdir().expect("a directory");
        fs::create_dir(directory.path().join("b")).expect("a folder");
        fs::write(directory.path().join("b/c"), "c").expect("a file");
        fs::write(directory.path().join("a"), "ab").expect("a file");
        let whole = sum(directory.path()).expect("a sum");
        assert_eq!(whole, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  -\n");
        fs::write(directory.path().join("a"), "xb").expect("a file");
        assert_ne!(sum(directory.path()).expect("a sum"), whole);
    }

    #[test]
    fn a_command_is_looked_for_in_the_path() {
        assert!(is_command("sh"));
        assert!(!is_command("no-such-command"));
    }
}

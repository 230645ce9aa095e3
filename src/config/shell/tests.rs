//! What scripts say, and what of them is lost.

use super::ShellVariables;
use crate::config::Problem;

fn run(script: &str) -> ShellVariables {
    let outside = [("A", "a"), ("EMPTY", ""), ("JVMFLAGS", "-Dout=1")];
    let outside = outside.map(|(name, value)| (name.to_string(), value.to_string()));
    let mut shell = ShellVariables::new(outside);
    shell.run("conf/java.env", script.as_bytes());
    shell
}

fn value(shell: &ShellVariables, name: &str) -> String {
    shell.value(name).iter().map(|piece| &*piece.text).collect()
}

/// `script` gives `X` this value, without a warning.
#[track_caller]
fn check(script: &str, expected: &str) {
    let shell = run(script);
    assert_eq!(shell.problems, [], "{script}");
    assert_eq!(value(&shell, "X"), expected, "{script}");
}

/// `script` gives rise to one warning, with these parts, and leaves `X` unset.
#[track_caller]
fn check_lost(script: &str, parts: &[&str]) {
    let shell = run(script);
    let problems: Vec<String> = shell.problems.iter().map(Problem::to_string).collect();
    assert_eq!(problems.len(), 1, "{script}: {problems:#?}");
    for part in parts {
        assert!(problems[0].contains(part), "{part} in {script}: {problems:#?}");
    }
    assert_eq!(value(&shell, "X"), "", "{script}");
}

#[test]
fn plain_assignments_are_read_as_a_shell_reads_them() {
    check("X=1", "1");
    check("  X=1  # a comment\n", "1");
    check("#X=2\nX=1", "1");
    check("X=a#b", "a#b");
    check("export X=1", "1");
    check("X=1; export X", "1");
    check("export Y=2 X=1 A", "1");
    check("X='a b'\"c d\"e\\ f", "a bc de f");
    check("X='$A \\'", "$A \\");
    check("X=\"$A ${A}b $Ab\"", "a ab ");
    check("X=\"\\$A \\\"q\\\" \\d\"", "$A \"q\" \\d");
    check("X=\"1\n2 \\\n3\"", "1\n2 3");
    check("X=1\\\n2", "12");
    check("X=", "");
    check("X=1\nX=", "");
    check("X=1\nX+=2\nX+=\" $A\"", "12 a");
    check("X=${EMPTY:-d}${MISSING:-\"e $A\"}${A:-f}${M:-${N:-g}}", "de aag");
    check("X=$EMPTY$MISSING", "");
    check("X=1$", "1$");
    check("X=a~b=c", "a~b=c");
    check("X=1\r\n", "1");
    check("export X", "");
}

#[test]
fn options_know_their_line() {
    let shell = run("JVMFLAGS=\"$JVMFLAGS -Da=1 \\\n -Db=2\"");
    let of = |text: &str| {
        let mut all = shell.value("JVMFLAGS").iter();
        all.find(|piece| piece.text.contains(text)).unwrap().origin.to_string()
    };
    assert_eq!(of("-Dout"), "variable JVMFLAGS");
    assert_eq!(of("-Da"), "conf/java.env:1");
    assert_eq!(of("-Db"), "conf/java.env:2");
}

#[test]
fn what_needs_a_shell_is_named_with_what_is_lost() {
    let begin = "conf/java.env:1: warning: `if` is no plain assignment, so it is not carried out";
    let lost = "it may set X, Y; not taken: jute.maxbuffer, b; put these into zoo.cfg";
    check_lost("if [ -z \"$A\" ]\nthen X=\"-Djute.maxbuffer=1 -Db\"; Y=2\nfi", &[begin, lost]);
    check_lost("\n\n[ -n \"$A\" ] && X=1", &[":3: warning: `[` is no", "it may set X; write a"]);
    check_lost("X=1 java -Da=b", &["`X=` is no plain", "not taken: a"]);
    check_lost("X=\"-Dh=$(hostname -f) -Dj=2\"", &["the value of X needs a shell", "taken: h, j"]);
    check_lost("X=`date`", &["the value of X needs a shell", "so X stays as it was"]);
    for script in
        ["X=$1", "X=$?", "X=${A%b}", "X=${A:+1}", "X=~/a", "X='open", "X=\"open", "X=\u{fffd}"]
    {
        check_lost(script, &["the value of X needs a shell"]);
    }
    for script in [
        "f() { X=1; }",
        "f()\n{\nX=1\n}",
        "for X in 1 2; do X=1; done",
        "while read X; do\nX=1\ndone < file",
        "case $A in\na) X=1 ;;\n(b) if true; then X=2; fi;;\nesac",
        "{ X=1\n}",
        "( X=1 )",
        "true &&\nX=1",
        "true || { X=1\n}",
        "cat <<EOF\nX=1\nEOF\n",
        "if true; then X=1",
        "X=(1 2)",
        "readonly X=1",
        "export -n X=1",
        "\"X\"=1",
        ". ./other.env",
    ] {
        check_lost(script, &["is no plain assignment"]);
    }
}

#[test]
fn what_follows_a_condition_is_read() {
    let shell = run("if true; then\n A=2 # fi\nfi\nX=1\ncase a in a) A=1;; esac; Y=2");
    assert_eq!((value(&shell, "X"), value(&shell, "Y")), ("1".to_string(), "2".to_string()));
    assert_eq!(value(&shell, "A"), "a");
    assert_eq!(shell.problems.len(), 2);
}

#[test]
fn values_stay_out_of_warnings() {
    let shell = run("JVMFLAGS=-Dpw=hunter2 java -Dsuper=hunter2\nX=\"-Dpw=hunter2 $(date)\"");
    assert_eq!(shell.problems.len(), 2);
    for problem in &shell.problems {
        assert!(!problem.to_string().contains("hunter2"), "{problem}");
    }
}

#[test]
fn variables_that_mean_nothing_here_are_noted() {
    let said = |script: &str| {
        let texts: Vec<String> = run(script).problems.iter().map(Problem::to_string).collect();
        texts.join("\n")
    };
    assert!(said("ZOO_LOG_DIR=/l").starts_with("conf/java.env:1: note: ZOO_LOG_DIR: a variable"));
    assert!(said("ZOOMAIN=x").contains("note: ZOOMAIN"));
    assert_eq!(said("ZOOCFGDIR=conf/"), "");
    assert!(said("ZOOCFGDIR=/etc/zk").contains("warning: ZOOCFGDIR: sends ZooKeeper's scripts to"));
    assert!(said("ZOOCFG=my.cfg").contains("warning: ZOOCFG: sends"));
    let java = said("export JAVA_TOOL_OPTIONS=-Djute.maxbuffer=9");
    assert!(
        java.contains("is read by Java itself, and not here; not taken: jute.maxbuffer"),
        "{java}"
    );
    assert_eq!(said("export JAVA_TOOL_OPTIONS=-Xmx1g"), "");
    let outside = ("_JAVA_OPTIONS".to_string(), "-Da=1".to_string());
    let shell = ShellVariables::new([outside]);
    let text = shell.problems[0].to_string();
    assert!(
        text.starts_with("variable _JAVA_OPTIONS: warning: _JAVA_OPTIONS is read by"),
        "{text}"
    );
}

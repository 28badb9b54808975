//! Writes what the system's own manager of services reads: systemd, launchd, the Windows task scheduler. Never asks any of them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::commands::serve::SERVICE_DRAIN;

/// What runs, and where.
pub(crate) struct Service<'s> {
    /// The program's path.
    pub program: &'s str,
    /// The local port.
    pub address: SocketAddr,
    /// For what it says.
    pub log: &'s Path,
}

/// The name that systemd knows it by, without the ending.
pub(crate) const UNIT: &str = "hotspare";

/// The name that launchd and the Windows task scheduler know it by.
pub(crate) const LABEL: &str = "dev.hotspare.service";

/// Seconds that systemd waits until it kills: longer than we wait for answers in flight.
const STOP_TIME: u64 = SERVICE_DRAIN.as_secs() + 10;

/// The folder of systemd's user units.
pub(crate) fn systemd_folder(config_home: &Path) -> PathBuf {
    config_home.join("systemd/user")
}

/// systemd opens the port and keeps it over restarts: who comes meanwhile waits, and is not refused.
pub(crate) fn systemd_socket(service: &Service<'_>) -> String {
    format!(
        "[Unit]\nDescription=hotspare, the local port of Claude Code\n\n[Socket]\nListenStream={}\nNoDelay=true\n\n[Install]\nWantedBy=sockets.target\n",
        service.address
    )
}

/// The service behind the socket. It says when it is ready, and which process it is after a handover; an order to stop goes to all of its
/// processes, so that one which has handed over and still answers ends in its own time too.
pub(crate) fn systemd_service(service: &Service<'_>) -> String {
    format!(
        "[Unit]\nDescription=hotspare keeps Claude Code working when its API does not\nRequires=hotspare.socket\nAfter=hotspare.socket\n\n\
         [Service]\nType=notify\nExecStart={} serve --service --listen {}\nExecReload=kill -HUP $MAINPID\n\
         # Keys that profiles name by `\"env\"`: NAME=value, one a line; mode 0600.\nEnvironmentFile=-%E/hotspare/environment\n\
         Restart=on-failure\nTimeoutStopSec={STOP_TIME}\nNoNewPrivileges=true\n\n[Install]\nWantedBy=default.target\n",
        systemd_quoted(service.program),
        service.address
    )
}

/// systemd splits at blanks, and has `%` and `$` for itself.
fn systemd_quoted(text: &str) -> String {
    let escaped = text.replace('\\', r"\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
    format!("\"{escaped}\"")
}

/// The agent that launchd starts at login, and again when it ends by itself.
pub(crate) fn launchd(service: &Service<'_>) -> String {
    let arguments = [service.program, "serve", "--service", "--listen", &service.address.to_string()];
    let arguments: String = arguments.iter().map(|argument| format!("\t\t<string>{}</string>\n", xml(argument))).collect();
    let log = xml(&service.log.display().to_string());
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n\
         <plist version=\"1.0\">\n<dict>\n\t<key>Label</key>\n\t<string>{LABEL}</string>\n\t<key>ProgramArguments</key>\n\t<array>\n{arguments}\t</array>\n\
         \t<key>RunAtLoad</key>\n\t<true/>\n\t<key>KeepAlive</key>\n\t<dict>\n\t\t<key>SuccessfulExit</key>\n\t\t<false/>\n\t</dict>\n\
         \t<key>ExitTimeOut</key>\n\t<integer>{STOP_TIME}</integer>\n\t<key>ProcessType</key>\n\t<string>Interactive</string>\n\
         \t<key>StandardErrorPath</key>\n\t<string>{log}</string>\n</dict>\n</plist>\n"
    )
}

/// The task that Windows starts at log-on, without a window and without a time limit.
#[cfg_attr(not(any(test, windows)), expect(dead_code, reason = "the binary does not run on Windows yet; the text is held by a test"))]
pub(crate) fn windows_task(service: &Service<'_>) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-16\"?>\r\n<Task version=\"1.2\" xmlns=\"http://schemas.microsoft.com/windows/2004/02/mit/task\">\r\n\
         \x20 <RegistrationInfo><URI>\\{LABEL}</URI></RegistrationInfo>\r\n\
         \x20 <Triggers><LogonTrigger><Enabled>true</Enabled></LogonTrigger></Triggers>\r\n\
         \x20 <Principals><Principal id=\"Author\"><LogonType>InteractiveToken</LogonType><RunLevel>LeastPrivilege</RunLevel></Principal></Principals>\r\n\
         \x20 <Settings>\r\n    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>\r\n\
         \x20   <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>\r\n    <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>\r\n\
         \x20   <ExecutionTimeLimit>PT0S</ExecutionTimeLimit>\r\n    <Hidden>true</Hidden>\r\n\
         \x20   <RestartOnFailure><Interval>PT1M</Interval><Count>999</Count></RestartOnFailure>\r\n  </Settings>\r\n\
         \x20 <Actions Context=\"Author\"><Exec><Command>{}</Command><Arguments>serve --service --listen {}</Arguments></Exec></Actions>\r\n</Task>\r\n",
        xml(service.program),
        service.address
    )
}

fn xml(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service() -> Service<'static> {
        let address = "127.0.0.1:4117".parse().expect("an address");
        Service { program: r#"/opt/100% "fine" & $mall/hotspare"#, address, log: Path::new("/home/me/.local/state/hotspare/service.log") }
    }

    #[test]
    fn systemd_gets_a_socket_and_a_service() {
        insta::assert_snapshot!("systemd_socket", systemd_socket(&service()));
        insta::assert_snapshot!("systemd_service", systemd_service(&service()));
    }

    #[test]
    fn launchd_and_windows_get_a_file_each() {
        insta::assert_snapshot!("launchd", launchd(&service()));
        insta::assert_snapshot!("windows_task", windows_task(&service()).replace("\r\n", "\n"));
    }

    /// What XML, or a list of arguments, might take for its own.
    const ODD_PATHS: [&str; 8] = [
        "/opt/hotspare/bin/hotspare",
        "/Users/me & you/My Tools/hotspare",
        r"C:\Program Files\R&D <beta>\hotspare.exe",
        r#"/opt/"quoted" and 'quoted'/hotspare"#,
        "/opt/&amp;&#38;/]]>/<!--x-->/hotspare",
        "/opt/grün/日本/hotspare",
        " /opt/blank at both ends ",
        "/opt/two  blanks\tand a tab/hotspare",
    ];

    #[test]
    fn launchd_reads_what_is_meant_whatever_the_paths_are() {
        for program in ODD_PATHS {
            let text = launchd(&Service { program, log: Path::new(program), ..service() });
            let read = plist::Value::from_reader_xml(text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}"));
            let keys = read.as_dictionary().expect("a dictionary");
            let names: Vec<&str> = keys.keys().map(String::as_str).collect();
            let known = ["Label", "ProgramArguments", "RunAtLoad", "KeepAlive", "ExitTimeOut", "ProcessType", "StandardErrorPath"];
            assert_eq!(names, known);
            let arguments: Vec<&str> =
                keys["ProgramArguments"].as_array().expect("a list").iter().filter_map(plist::Value::as_string).collect();
            assert_eq!(arguments, [program, "serve", "--service", "--listen", "127.0.0.1:4117"]);
            assert_eq!((keys["Label"].as_string(), keys["StandardErrorPath"].as_string()), (Some(LABEL), Some(program)));
            assert_eq!(keys["RunAtLoad"].as_boolean(), Some(true));
            // It comes back after a crash, and not after `service stop`.
            let alive = keys["KeepAlive"].as_dictionary().expect("a dictionary");
            assert_eq!((alive.len(), alive["SuccessfulExit"].as_boolean()), (1, Some(false)));
            assert_eq!(keys["ExitTimeOut"].as_unsigned_integer(), Some(STOP_TIME));
            assert_eq!(keys["ProcessType"].as_string(), Some("Interactive"), "answers in flight are not slowed down");
        }
    }

    #[test]
    fn windows_reads_what_is_meant_whatever_the_paths_are() {
        const SPACE: &str = "http://schemas.microsoft.com/windows/2004/02/mit/task";
        for program in ODD_PATHS {
            let text = windows_task(&Service { program, ..service() });
            let tree = roxmltree::Document::parse(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
            let task = tree.root_element();
            assert!(task.has_tag_name((SPACE, "Task")) && task.attribute("version") == Some("1.2"));
            let at = |path: &str| {
                let node = path.split('/').try_fold(task, |node, name| node.children().find(|child| child.has_tag_name((SPACE, name))));
                node.unwrap_or_else(|| panic!("{path} is not in {text}")).text().unwrap_or_default().to_owned()
            };
            for (path, value) in [
                ("RegistrationInfo/URI", r"\dev.hotspare.service"),
                ("Triggers/LogonTrigger/Enabled", "true"),
                ("Principals/Principal/LogonType", "InteractiveToken"),
                ("Principals/Principal/RunLevel", "LeastPrivilege"),
                ("Settings/MultipleInstancesPolicy", "IgnoreNew"),
                ("Settings/DisallowStartIfOnBatteries", "false"),
                ("Settings/StopIfGoingOnBatteries", "false"),
                ("Settings/ExecutionTimeLimit", "PT0S"),
                ("Settings/RestartOnFailure/Interval", "PT1M"),
                ("Actions/Exec/Command", program),
                ("Actions/Exec/Arguments", "serve --service --listen 127.0.0.1:4117"),
            ] {
                assert_eq!(at(path), value, "{path}");
            }
            let named = |name: &str| tree.descendants().find(|node| node.has_tag_name((SPACE, name))).expect("there");
            assert_eq!(named("Actions").attribute("Context"), named("Principal").attribute("id"), "who runs it is who is named");
        }
    }
}

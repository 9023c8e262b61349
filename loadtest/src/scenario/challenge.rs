//! What a challenge costs one core of a node, without sockets and actors, beside the cryptography that it cannot do without.

mod core_time;
mod page;

use std::hint::black_box;
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ParsedPublicKey};
use clap::Args;
use countersign::challenge::{Answer, AnswerMac, ChallengeId, Issued, Issuer, NativeAnswer, Pending, Verdict};
use countersign::config::{ChallengeForm, ChallengeSettings};
use countersign_node_proto::ConnectionId;
use serde_json::Value;

pub(crate) use core_time::each;
use page::{ORIGIN, Page};

use crate::Outcome;
use crate::report::{Bar, Finding, Report};
use crate::stats::{count, median, rate_text, ratio};

/// Thousands of challenges that a core should issue and verify in a second without a signature, and with one.
const UNSIGNED_MIN: f64 = 50.0;
const SIGNED_MIN: f64 = 15.0;
/// What a wrong answer may cost, in bare MACs: laying the transcript out is part of making one.
const WRONG_MAX: f64 = 2.0;
/// Bytes of what waits for an answer, beside what its connection keeps anyway.
const PENDING_MAX: f64 = 256.0;

/// Options of `challenge`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Challenges {
    /// Challenges of one measurement
    #[arg(long, default_value_t = 4_000)]
    pub challenges: usize,
    /// Passes over everything that is measured; medians count
    #[arg(long, default_value_t = 7)]
    pub passes: usize,
}

/// How a batch of challenges is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reply {
    Right,
    WrongMac,
    WrongSignature,
    OtherChallenge,
    /// Right, by a client of the echo carrier.
    Echo,
}

/// Processor seconds of one challenge of a batch: to issue it, to read its answer's JSON, to judge it.
#[derive(Debug, Clone, Copy)]
struct Spent {
    issue: f64,
    read: f64,
    judge: f64,
}

/// Everything that is measured, in seconds of a core, pass by pass.
#[derive(Debug, Default)]
struct Measured {
    mac: Vec<f64>,
    verification: Vec<f64>,
    batches: Vec<(Reply, Spent)>,
}

struct Stage {
    issuer: Issuer,
    page: Page,
    challenges: usize,
}

/// Runs the scenario.
///
/// # Errors
/// If an answer was not judged as it should be, or there is no randomness.
pub(crate) fn run(options: &Challenges) -> Outcome<Report> {
    let issuer = Issuer::new(ChallengeSettings::default().program_operations)?;
    let stage = Stage { issuer, page: Page::new()?, challenges: options.challenges };
    let mut measured = Measured::default();
    for _ in 0..options.passes {
        measured.mac.push(stage.bare_mac()?);
        measured.verification.push(stage.bare_verification()?);
        for reply in [Reply::Right, Reply::WrongMac, Reply::WrongSignature, Reply::OtherChallenge, Reply::Echo] {
            measured.batches.push((reply, stage.batch(reply)?));
        }
    }
    Ok(report(options, &measured))
}

impl Reply {
    const fn verdict(self) -> Verdict {
        match self {
            Self::Right | Self::Echo => Verdict::Verified,
            Self::WrongMac | Self::OtherChallenge => Verdict::WrongAnswer,
            Self::WrongSignature => Verdict::BadSignature,
        }
    }
}

impl Stage {
    /// One HMAC-SHA256 over a transcript, under a key of its own as each challenge has one.
    fn bare_mac(&self) -> Outcome<f64> {
        let (connection, issued) = self.issue(0, Reply::Right)?;
        let transcript = self.page.transcript(&connection, &issued);
        let (seconds, ()) = each(self.challenges, || {
            for turn in 0..self.challenges {
                let key = [turn.to_be_bytes()[7]; 32];
                black_box(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), black_box(&transcript)));
            }
        });
        Ok(seconds)
    }

    /// One verification of an ECDSA signature under a key that is parsed already.
    fn bare_verification(&self) -> Outcome<f64> {
        let (message, key) = ([5; 400], ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.page.point())?);
        let signature = self.page.sign(&message)?;
        let verify = || key.verify_sig(black_box(&message), &signature).is_ok();
        let (seconds, good) = each(self.challenges, || (0..self.challenges).filter(|_| verify()).count());
        if good == self.challenges { Ok(seconds) } else { Err("a good signature was refused".into()) }
    }

    /// Challenges that are issued, answered and judged.
    fn batch(&self, reply: Reply) -> Outcome<Spent> {
        let (issue, pending) = each(self.challenges, || {
            let pending = |turn| self.issue(turn, reply).map(|(connection, issued)| (pending(connection, &issued), issued));
            (0..self.challenges).map(pending).collect::<Outcome<Vec<_>>>()
        });
        let pending = pending?;
        let texts = pending.iter().map(|(pending, issued)| self.text(pending, issued, reply)).collect::<Outcome<Vec<_>>>()?;
        let (read, answers) = each(self.challenges, || texts.iter().map(|text| read(text, reply)).collect::<Outcome<Vec<_>>>());
        let answers = answers?;
        let received_at = Instant::now();
        let (judge, judged) = each(self.challenges, || {
            let judge = |((pending, _), answer): ((Pending, Issued), &Answer)| pending.judge(answer, received_at);
            pending.into_iter().zip(&answers).map(judge).filter(|verdict| *verdict == reply.verdict()).count()
        });
        if judged == self.challenges {
            Ok(Spent { issue, read, judge })
        } else {
            Err(format!("{} answers of the kind {reply:?} were judged otherwise", self.challenges - judged).into())
        }
    }

    /// A challenge of a connection of its own.
    fn issue(&self, turn: usize, reply: Reply) -> Outcome<(ConnectionId, Issued)> {
        let connection = ConnectionId::from_bytes((turn as u128).to_be_bytes());
        let (form, binding) = match reply {
            Reply::Echo => (ChallengeForm::Source, None),
            _ => (ChallengeForm::Vm, Some(&self.page.binding)),
        };
        Ok((connection, self.issuer.issue(connection, 0, Some(ORIGIN), form, binding)?))
    }

    /// The answer as it comes from the wire.
    fn text(&self, pending: &Pending, issued: &Issued, reply: Reply) -> Outcome<String> {
        if reply == Reply::Echo {
            return Ok(page::echo(issued)?.to_string());
        }
        let right = self.page.answer(&pending.connection, issued)?;
        let answer = match reply {
            Reply::Right | Reply::Echo => right,
            Reply::WrongMac => NativeAnswer { mac: AnswerMac([0; 32]), ..right },
            Reply::WrongSignature => {
                NativeAnswer { signature: countersign::challenge::AnswerSignature(self.page.sign(b"else")?), ..right }
            }
            Reply::OtherChallenge => NativeAnswer { challenge: ChallengeId::from_bytes([0; 16]), ..right },
        };
        let mut request = serde_json::to_value(&answer)?;
        request["id"] = 2.into();
        request["action"] = "answer".into();
        Ok(request.to_string())
    }
}

fn pending(connection: ConnectionId, issued: &Issued) -> Pending {
    let sent_at = Instant::now();
    Pending::new(connection, issued, sent_at, sent_at + Duration::from_secs(3_600))
}

fn read(text: &str, reply: Reply) -> Outcome<Answer> {
    let value: Value = serde_json::from_str(text)?;
    Ok(if reply == Reply::Echo { Answer::echo(&value) } else { Answer::native(&value) })
}

impl Measured {
    /// The median of something over the batches with this reply.
    fn of(&self, reply: Reply, part: impl Fn(&Spent) -> f64) -> f64 {
        let parts = self.batches.iter().filter(|(other, _)| *other == reply).map(|(_, spent)| part(spent));
        median(&parts.collect::<Vec<_>>())
    }
}

fn report(options: &Challenges, measured: &Measured) -> Report {
    let setup = format!(
        "One thread, in process: no socket, no actor. {} passes of {} challenges of {} operations, medians of the thread's own \
         processor time; answers are made between the measurements. Reading is parsing the answer's JSON.",
        options.passes,
        options.challenges,
        ChallengeSettings::default().program_operations
    );
    let mut report =
        Report::new("challenge", setup, &["what", "microseconds", "a second", "in bare MACs", "in bare verifications"]);
    let (mac, verification) = (median(&measured.mac), median(&measured.verification));
    let whole = |spent: &Spent| spent.issue + spent.read + spent.judge;
    let [issue, read, judge] = [|s: &Spent| s.issue, |s: &Spent| s.read, |s: &Spent| s.judge];
    let unsigned = measured.of(Reply::WrongMac, whole);
    let (echo, signed) = (measured.of(Reply::Echo, whole), measured.of(Reply::Right, whole));
    let wrong = measured.of(Reply::WrongMac, judge);
    let rows = [
        ("bare: HMAC-SHA256 of a transcript, key included", mac),
        ("bare: P-256 verification, key parsed before", verification),
        ("issue bytecode", measured.of(Reply::Right, issue)),
        ("issue a printed function", measured.of(Reply::Echo, issue)),
        ("read an answer", measured.of(Reply::Right, read)),
        ("judge a right answer", measured.of(Reply::Right, judge)),
        ("judge a wrong MAC", wrong),
        ("judge a wrong signature", measured.of(Reply::WrongSignature, judge)),
        ("judge an answer to another challenge", measured.of(Reply::OtherChallenge, judge)),
        ("issue, read and judge, all but the signature (bytecode)", unsigned),
        ("issue, read and judge, echo carrier (printed function, no key)", echo),
        ("issue, read and judge, with the signature (bytecode)", signed),
    ];
    for (name, seconds) in rows {
        let texts = [format!("{:.2}", seconds * 1e6), rate_text(ratio(1.0, seconds))];
        let ratios = [mac, verification].map(|bare| format!("{:.2}", ratio(seconds, bare)));
        report.row([name.to_owned()].into_iter().chain(texts).chain(ratios));
    }
    let thousands = |seconds| ratio(0.001, seconds);
    report.findings.push(Finding::new(
        "all but the signature, thousands a second",
        thousands(unsigned),
        Bar::AtLeast(UNSIGNED_MIN),
    ));
    report.findings.push(Finding::new("echo carrier, thousands a second", thousands(echo), Bar::AtLeast(UNSIGNED_MIN)));
    report.findings.push(Finding::new("with the signature, thousands a second", thousands(signed), Bar::AtLeast(SIGNED_MIN)));
    report.findings.push(Finding::plain("with the signature, of a bare verification", ratio(signed, verification)));
    report.findings.push(Finding::new("judging a wrong MAC, in bare MACs", ratio(wrong, mac), Bar::AtMost(WRONG_MAX)));
    report.findings.push(Finding::new(
        "bytes of a pending challenge",
        count(size_of::<Pending>() as u64),
        Bar::AtMost(PENDING_MAX),
    ));
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_answer_is_judged_as_it_should_be() {
        let report = run(&Challenges { challenges: 3, passes: 1 }).unwrap();
        assert_eq!((report.rows.len(), report.findings.len()), (12, 6));
    }
}

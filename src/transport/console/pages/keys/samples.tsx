/** @jsxImportSource #console */
/** What pages of keys are made of, for the kit: values, differences, the past, a job in each of its states. */
import type { JobView } from "../../../../service/jobs";
import { Section } from "../../components/boxes";
import { Content, DiffView } from "../../components/content";
import type { Html } from "../../html";
import type { PageRequest } from "../../page";
import { diffOf } from "../../values/line-diff";
import { JobFacts } from "../job";
import { PastBanner, StaleNotice } from "./banners";

const before = Buffer.from("server:\n  port: 8080\n  name: old\r\nlast");
const after = Buffer.from("server:\n  port: 9090\n  name: old\nlast\n");
const hostile = Buffer.from("<script>alert(1)</script>\u{202e}evil\u{7}\ttab\nnext line");
const binary = Uint8Array.from({ length: 40 }, (_, at) => (at * 37) % 256);

function job(state: JobView["state"], nowMs: number): JobView {
  return {
    id: "sample",
    kind: "write keys",
    state,
    startedAtMs: nowMs - 4_200,
    endedAtMs: state === "running" ? undefined : nowMs,
    done: state === "done" ? 1_204 : 731,
    total: 1_204,
    result:
      state === "done"
        ? { written: 1_203, conflicts: 1, firstConflicts: ["config/app"], revision: "81204" }
        : undefined,
    error: state === "failed" ? "etcdserver: mvcc: database space exceeded" : undefined,
  };
}

export function KeySamples({ request }: { readonly request: PageRequest }): Html {
  return (
    <>
      <Section title="Values">
        <div class="columns">
          <Content of={hostile} label="A hostile value" />
          <Content of={new Uint8Array(0)} label="An empty value" />
        </div>
      </Section>
      <Section title="Differences">
        <div class="columns sides">
          <DiffView of={diffOf(before, after)} label="Of lines and their ends" />
          <DiffView of={diffOf(binary, binary.with(3, 0))} label="Of bytes" />
          <DiffView of={diffOf(after, after)} label="Of equal values" />
        </div>
      </Section>
      <Section title="The past, and what may be old">
        <PastBanner request={request} revision={1} now={2} href={() => "/ui/kit"} />
        <StaleNotice request={request} />
      </Section>
      <Section title="Jobs">
        <div class="columns">
          {(["running", "done", "failed", "canceled"] as const).map((state) => (
            <JobFacts job={job(state, request.nowMs)} />
          ))}
        </div>
      </Section>
    </>
  );
}

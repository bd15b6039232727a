/**
 * Where Keelson and the reference may answer differently, and why. Short on purpose. Each entry has to fit some
 * difference in the regular run; one that fits none any more must go.
 */
import type { Step } from "./steps";

export interface Difference {
  readonly step: Step;
  readonly reference: unknown;
  readonly subject: unknown;
}

export interface KnownDifference {
  readonly name: string;
  readonly reason: string;
  fits(difference: Difference): boolean;
}

function field(value: unknown, name: string): unknown {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>)[name] : undefined;
}

/** A field of an answer over either door; JSON leaves out what is zero and spells names as the proto does. */
function answerField(answer: unknown, name: string): number {
  const body = field(answer, "message") ?? field(answer, "body");
  const jsonName = name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  return Number(field(body, name) ?? field(body, jsonName) ?? 0);
}

function answered(answer: unknown): boolean {
  return field(answer, "code") === 0 || field(answer, "status") === 200;
}

function refusedAsCompacted(answer: unknown): boolean {
  const text = String(field(answer, "text") ?? field(field(answer, "body"), "message"));
  return text.includes("required revision has been compacted");
}

/** The revision that a HashKV request asked for, when the step is one. */
function hashedRevision(step: Step): bigint | undefined {
  if (step.kind !== "unary" || step.method.name !== "HashKV") return undefined;
  return (step.request as unknown as { revision: bigint }).revision;
}

export const knownDifferences: readonly KnownDifference[] = [
  {
    name: "the decoder's own words for malformed protobuf",
    reason: "the text comes from the protobuf library of each server; status and code are compared",
    fits({ step, reference, subject }) {
      if (step.kind !== "raw-grpc") return false;
      if (step.what !== "message cut short" && step.what !== "not protobuf") return false;
      return (
        field(reference, "httpStatus") === field(subject, "httpStatus") &&
        field(reference, "code") === field(subject, "code") &&
        String(field(subject, "text")) !== ""
      );
    },
  },
  {
    name: "the hash at a compacted revision",
    reason:
      "etcd answers it from memory with the hash it computed while compacting, over the rows since the compaction " +
      "before, also when a later compaction went further, and forgets it at a restart; Keelson hashes what is there, " +
      "says so in compact_revision, and refuses what is gone",
    fits({ step, reference, subject }) {
      const asked = hashedRevision(step);
      if (asked === undefined || asked <= 0n || !answered(reference)) return false;
      const remembered =
        answerField(reference, "hashRevision") === Number(asked) &&
        answerField(reference, "compactRevision") < Number(asked);
      const hashed =
        answerField(subject, "hashRevision") === Number(asked) &&
        answerField(subject, "compactRevision") === Number(asked);
      return remembered && (answered(subject) ? hashed : refusedAsCompacted(subject));
    },
  },
  {
    name: "the hash at no revision",
    reason:
      "etcd takes a negative revision literally and hashes nothing, and after a compaction at 0 answers 0 with the " +
      "hash of nothing as well; Keelson takes both as the newest revision, as Range does",
    fits({ step, reference, subject }) {
      const asked = hashedRevision(step);
      if (asked === undefined || asked > 0n || !answered(reference) || !answered(subject)) return false;
      return answerField(reference, "hashRevision") <= 0 && answerField(subject, "hashRevision") > 0;
    },
  },
];

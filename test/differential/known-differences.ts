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
    name: "the parser's own words for malformed JSON",
    reason: "the text comes from the JSON library of each server; HTTP status and code are compared",
    fits({ step, reference, subject }) {
      if (step.kind !== "http") return false;
      const [theirs, ours] = [field(reference, "body"), field(subject, "body")];
      return (
        field(reference, "status") === 400 &&
        field(subject, "status") === 400 &&
        field(theirs, "code") === 3 &&
        field(ours, "code") === 3 &&
        String(field(ours, "message") ?? "") !== ""
      );
    },
  },
];

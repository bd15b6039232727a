/** The operation table. */
import type { Operation } from "../operation";
import { kvOperations } from "./kv";

export const operations: readonly Operation[] = [...kvOperations];

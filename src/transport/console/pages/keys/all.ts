/** Pages and actions about keys. */
import type { Action, Page } from "../../page";
import { deleteKeyPage, deleteKeys, deleteKeysPage } from "./delete";
import { editKey, newKey, previewValue, reviseValue, saveValue } from "./edit";
import { exportKeys } from "./export";
import { copyKeysPage, importKeysPage, previewCopy, previewImport, writeKeys } from "./import";
import { cancelJob, jobPage } from "../job";
import { keyHistory, restoreKey } from "./history";
import { keyPage, keyValue } from "./key";
import { keys } from "./keys";

export const keyPages: readonly Page[] = [
  keys,
  keyPage,
  keyValue,
  editKey,
  newKey,
  keyHistory,
  restoreKey,
  deleteKeysPage,
  deleteKeyPage,
  exportKeys,
  importKeysPage,
  copyKeysPage,
  jobPage,
];

export const keyActions: readonly Action[] = [
  previewValue,
  reviseValue,
  saveValue,
  deleteKeys,
  previewImport,
  previewCopy,
  writeKeys,
  cancelJob,
];

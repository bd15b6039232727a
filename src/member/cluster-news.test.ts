import { expect, test } from "bun:test";
import { create } from "@bufbuild/protobuf";
import { MemberSchema } from "../proto/gen/etcd/rpc_pb";
import { ClusterNews } from "./cluster-news";

const member = (id: number, peerUrl = `http://m${id}:2380`, isLearner = false) =>
  create(MemberSchema, { ID: BigInt(id), peerURLs: [peerUrl], isLearner });

test("each change of leader and of membership is one line, and what stays is none", () => {
  const lines: string[] = [];
  const news = new ClusterNews(1n, [member(1)], (level, message, fields) => {
    lines.push(`${level} ${message} ${Object.values(fields ?? {}).join(" ")}`);
  });
  const told = () => lines.splice(0);
  news.leader(0n, 1);
  news.members([member(1)]);
  expect(told()).toEqual([]);
  news.leader(1n, 2);
  news.leader(1n, 2);
  news.leader(0n, 3);
  news.leader(10n, 3);
  expect(told()).toEqual([
    "info this member leads 2",
    "warn nobody leads that this member hears 1 3",
    "info a member leads a 3",
  ]);
  news.members([member(1), member(2, "http://m2:2380", true)]);
  news.members([member(1), member(2)]);
  news.members([member(1), member(2, "http://m2:3380")]);
  news.members([member(1), member(2, "http://m2:3380")]);
  news.members([member(2, "http://m2:3380")]);
  expect(told()).toEqual([
    "info a member was added 2 http://m2:2380 true",
    "info a learner became a voter 2 http://m2:2380 false",
    "info a member has moved 2 http://m2:3380 false",
    "info a member was removed 1",
  ]);
});

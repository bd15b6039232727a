import { expect, test } from "bun:test";
import { hexId } from "../ids";
import { clusterIdOf, memberIdOf } from "./identity";

test("etcd's default member and cluster get the ids that etcd gives them", () => {
  const id = memberIdOf(["http://localhost:2380"], "etcd-cluster");
  expect(hexId(id)).toBe("8e9e05c52164694d");
  expect(hexId(clusterIdOf([id]))).toBe("cdf818194e3a8c32");
});

test("the order of URLs and of members does not matter, the token and the time do", () => {
  const urls = ["http://10.0.0.2:2380", "http://10.0.0.1:2380"];
  expect(memberIdOf(urls, "t")).toBe(memberIdOf(urls.toReversed(), "t"));
  expect(memberIdOf(urls, "t")).not.toBe(memberIdOf(urls, "u"));
  expect(memberIdOf(urls, "t", 1)).not.toBe(memberIdOf(urls, "t"));
  expect(clusterIdOf([1n, 2n])).toBe(clusterIdOf([2n, 1n]));
});

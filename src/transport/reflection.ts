/** Server reflection (grpc.reflection.v1 and v1alpha): generic clients learn every service from it. */
import { create, toBinary } from "@bufbuild/protobuf";
import type { DescFile, MessageShape } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { GrpcCode } from "../errors";
import type {
  ServerReflectionRequest,
  ServerReflectionRequestSchema,
  ServerReflectionResponse,
} from "../proto/gen/grpc/reflection_pb";
import { ServerReflectionResponseSchema } from "../proto/gen/grpc/reflection_pb";
import type { ServerStream } from "./call";
import { methods } from "./methods";

type Answer = MessageShape<typeof ServerReflectionResponseSchema>["messageResponse"];

/** Describes the services whose type names it is given; by default every one in the method table. */
export class ReflectionService {
  readonly #services: readonly string[];
  readonly #files = new Map<string, Uint8Array>();
  readonly #symbols = new Map<string, string>();
  /** File name → the names of the files it imports. */
  readonly #imports = new Map<string, readonly string[]>();

  constructor(
    services: readonly string[] = [...new Set(methods.map((method) => method.desc.parent.typeName))],
  ) {
    this.#services = services.toSorted();
    for (const method of methods) {
      if (services.includes(method.desc.parent.typeName)) this.#addFile(method.desc.parent.file);
    }
  }

  /** Answers each question of the stream in order. */
  async serverReflectionInfo(
    stream: ServerStream<typeof ServerReflectionRequestSchema, typeof ServerReflectionResponseSchema>,
  ): Promise<void> {
    for await (const request of stream.requests) {
      if (!stream.send(this.answer(request))) await stream.drained();
    }
  }

  /** One question, one answer. What is not known is an answer too, not an end of the stream. */
  answer(request: ServerReflectionRequest): ServerReflectionResponse {
    return create(ServerReflectionResponseSchema, {
      validHost: request.host,
      originalRequest: request,
      messageResponse: this.#respond(request.messageRequest),
    });
  }

  #respond(question: ServerReflectionRequest["messageRequest"]): Answer {
    switch (question.case) {
      case "listServices":
        return {
          case: "listServicesResponse",
          value: create(ServerReflectionResponseSchema.field.listServicesResponse.message!, {
            service: this.#services.map((name) => ({ name })),
          }) as never,
        };
      case "fileByFilename":
        return this.#fileAnswer(question.value, question.value);
      case "fileContainingSymbol":
        return this.#fileAnswer(this.#symbols.get(question.value), question.value);
      default:
        return failure(GrpcCode.notFound, "not found");
    }
  }

  #fileAnswer(_file: string | undefined, _asked: string): Answer {
    throw new Error("not yet");
  }

  #addFile(file: DescFile): void {
    if (this.#files.has(file.proto.name)) return;
    this.#files.set(file.proto.name, toBinary(FileDescriptorProtoSchema, file.proto));
    this.#imports.set(file.proto.name, file.proto.dependency);
    for (const dependency of file.dependencies) this.#addFile(dependency);
  }
}

function failure(errorCode: GrpcCode, errorMessage: string): Answer {
  return { case: "errorResponse", value: { errorCode, errorMessage } as never };
}

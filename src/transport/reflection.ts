/** Server reflection (grpc.reflection.v1 and v1alpha): generic clients learn every service from it. */
import { create, toBinary } from "@bufbuild/protobuf";
import type { DescFile, DescMessage } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { GrpcCode } from "../errors";
import type {
  ServerReflectionRequest,
  ServerReflectionRequestSchema,
  ServerReflectionResponse,
} from "../proto/gen/grpc/reflection_pb";
import {
  ErrorResponseSchema,
  FileDescriptorResponseSchema,
  ListServiceResponseSchema,
  ServerReflectionResponseSchema,
} from "../proto/gen/grpc/reflection_pb";
import type { ServerStream } from "./call";
import { methods } from "./methods";

type Answer = ServerReflectionResponse["messageResponse"];

/** Describes the services whose type names it is given; by default every one in the method table. */
export class ReflectionService {
  readonly #services: readonly string[];
  readonly #files = new Map<string, DescFile>();
  /** Full name of a service, method, message or enum → the file that declares it. */
  readonly #symbols = new Map<string, DescFile>();

  constructor(services?: readonly string[]) {
    const described = methods.map((method) => method.desc.parent);
    const chosen = new Set(services ?? described.map((service) => service.typeName));
    this.#services = [...chosen].sort();
    for (const service of described) if (chosen.has(service.typeName)) this.#addFile(service.file);
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
          value: create(ListServiceResponseSchema, { service: this.#services.map((name) => ({ name })) }),
        };
      case "fileByFilename":
        return fileAnswer(this.#files.get(question.value), question.value);
      case "fileContainingSymbol":
        return fileAnswer(this.#symbols.get(question.value), question.value);
      case "fileContainingExtension":
        return failure(GrpcCode.notFound, `no extensions of ${question.value.containingType}`);
      case "allExtensionNumbersOfType":
        return failure(GrpcCode.notFound, `no extensions of ${question.value}`);
      default:
        return failure(GrpcCode.invalidArgument, "the request asks nothing");
    }
  }

  #addFile(file: DescFile): void {
    if (this.#files.has(file.proto.name)) return;
    this.#files.set(file.proto.name, file);
    for (const dependency of file.dependencies) this.#addFile(dependency);
    for (const message of file.messages) this.#addMessage(message, file);
    for (const declared of file.enums) this.#symbols.set(declared.typeName, file);
    for (const service of file.services) {
      this.#symbols.set(service.typeName, file);
      for (const method of service.methods) this.#symbols.set(`${service.typeName}.${method.name}`, file);
    }
  }

  #addMessage(message: DescMessage, file: DescFile): void {
    this.#symbols.set(message.typeName, file);
    for (const declared of message.nestedEnums) this.#symbols.set(declared.typeName, file);
    for (const nested of message.nestedMessages) this.#addMessage(nested, file);
  }
}

/** The file first, then everything that it imports, so that a client can build it without asking again. */
function fileAnswer(file: DescFile | undefined, asked: string): Answer {
  if (file === undefined) return failure(GrpcCode.notFound, `not found: ${asked}`);
  const files: DescFile[] = [];
  const collect = (one: DescFile): void => {
    if (files.includes(one)) return;
    files.push(one);
    for (const dependency of one.dependencies) collect(dependency);
  };
  collect(file);
  return {
    case: "fileDescriptorResponse",
    value: create(FileDescriptorResponseSchema, {
      fileDescriptorProto: files.map((one) => toBinary(FileDescriptorProtoSchema, one.proto)),
    }),
  };
}

function failure(errorCode: GrpcCode, errorMessage: string): Answer {
  return { case: "errorResponse", value: create(ErrorResponseSchema, { errorCode, errorMessage }) };
}

/** SSH's messages by number (RFC 4250 section 4.1; 30 and 31 as RFC 5656 has them). */

export const MESSAGE = {
  disconnect: 1,
  ignore: 2,
  unimplemented: 3,
  debug: 4,
  serviceRequest: 5,
  serviceAccept: 6,
  extInfo: 7,
  kexInit: 20,
  newKeys: 21,
  ecdhInit: 30,
  ecdhReply: 31,
  authRequest: 50,
  authFailure: 51,
  authSuccess: 52,
  authBanner: 53,
  /** SSH_MSG_USERAUTH_PK_OK (RFC 4252 section 7). */
  authKeyOk: 60,
  globalRequest: 80,
  requestSuccess: 81,
  requestFailure: 82,
  channelOpen: 90,
  openConfirmation: 91,
  openFailure: 92,
  windowAdjust: 93,
  data: 94,
  extendedData: 95,
  eof: 96,
  close: 97,
  channelRequest: 98,
  channelSuccess: 99,
  channelFailure: 100,
} as const;

const KNOWN = new Set<number>(Object.values(MESSAGE));

/** Whether we know what a message of this number would say: what we do not know is answered UNIMPLEMENTED. */
export function isKnown(type: number): boolean {
  return KNOWN.has(type);
}

/** From here on they are of user authentication (RFC 4251 section 7). */
export const FIRST_OF_AUTHENTICATION = MESSAGE.authRequest;

/** From here on they are of the connection protocol, not of the transport. */
export const FIRST_OF_CONNECTION = MESSAGE.globalRequest;

package org.apache.zookeeper.server;

/** Shadows Apache's class of this name, see {@link foreign.ExternalServerFactory}. */
public class NIOServerCnxnFactory extends foreign.ExternalServerFactory {
}

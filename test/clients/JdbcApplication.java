// SPDX-License-Identifier: PostgreSQL
//
// An application on pgjdbc that knows nothing of pg_ha but the addresses of all servers: writes a row after the other,
// and connects again after an error.  A line per attempt: "ok ID PORT", or "error SQLSTATE", or "error -" where it
// found no server.  Arguments: PORT,PORT,... on 127.0.0.1, and the first id less one.
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.Arrays;
import java.util.stream.Collectors;

public class JdbcApplication {
    public static void main(String[] args) throws InterruptedException {
        final String hosts = Arrays.stream(args[0].split(",")).map(p -> "127.0.0.1:" + p).collect(Collectors.joining(","));
        // The driver remembers for hostRecheckSeconds, 10 unless told otherwise, that a host was no primary.
        final String url = "jdbc:postgresql://" + hosts
            + "/postgres?user=app&targetServerType=primary&hostRecheckSeconds=1&connectTimeout=2&socketTimeout=30";
        long id = Long.parseLong(args[1]);
        Connection connection = null;
        int port = 0;
        while (true) {
            try {
                if (connection == null) {
                    connection = DriverManager.getConnection(url);
                    port = ask_port(connection);
                }
                id++;
                try (Statement statement = connection.createStatement()) {
                    statement.executeUpdate("INSERT INTO ledger VALUES (" + id + ", 0)");
                }
                System.out.println("ok " + id + " " + port);
            } catch (SQLException error) {
                final String state = error.getSQLState();
                System.out.println("error " + (state == null || state.startsWith("08") ? "-" : state));
                close(connection);
                connection = null;
            }
            System.out.flush();
            Thread.sleep(20);
        }
    }

    private static int ask_port(Connection connection) throws SQLException {
        try (Statement statement = connection.createStatement();
             ResultSet row = statement.executeQuery("SELECT inet_server_port()")) {
            row.next();
            return row.getInt(1);
        }
    }

    private static void close(Connection connection) {
        try {
            if (connection != null)
                connection.close();
        } catch (SQLException ignored) {
            // it is given up in any case
        }
    }
}
